//! Messages of Amazon SNS: posted over HTTPS, or in the record that a function is invoked with. Both have the same
//! envelope, but for the case of two names.
//!
//! What is posted is signed with RSA, by SHA-1 (`SignatureVersion` 1, the default of a topic) or SHA-256 (2), over names
//! and values of some fields in the order of their names. Anybody's messages are signed so, whichever topic they are of:
//! only `topics` says whose are taken. The message itself says where the certificate is, so that the place is checked
//! before anything is fetched: it has to be on the host of SNS in the topic's region, over HTTPS, under the name that SNS
//! gives its certificates. As in AWS's own validators, that is what makes it SNS's: whoever could put a certificate there
//! could as well have one issued for that host, so that neither its chain nor its subject says more; its time is checked.
//!
//! A message is taken within an hour of its time, for which SNS goes on trying; again within that, it has the same
//! `MessageId`. With raw message delivery there is no envelope and no signature. SNS posts JSON as text/plain.
//! Source: docs.aws.amazon.com/sns/latest/dg, sns-message-and-json-formats.html, sns-verify-signature-of-message.html and
//! sns-message-delivery-retries.html; validators: aws/aws-sdk-java-v2, services-custom/sns-message-manager, and
//! aws/aws-js-sns-message-validator (read 2026-08).

use std::time::Duration;

use data_encoding::BASE64;
use jiff::Timestamp;
use ring::signature::{RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, UnixTime, alg_id,
};
use serde::Deserialize;
use webpki::{EndEntityCert, KeyUsage};

use super::auth::AuthError;
use super::aws::{Arn, TopicArn};
use super::{ParseError, Request, json};
use crate::domain::secret::{Resolved, Secret, SecretRef};

/// How far from now the time of a message may be, in seconds.
const TOLERANCE: u64 = 60 * 60;

crate::words! {
    /// What a message is for.
    pub enum Kind {
        /// Something was published to the topic.
        Notification = "Notification",
        /// Somebody wants the topic's messages sent here.
        SubscriptionConfirmation = "SubscriptionConfirmation",
        /// The topic's messages are not sent here any more.
        UnsubscribeConfirmation = "UnsubscribeConfirmation",
    }
}

/// A message in its envelope.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Envelope {
    /// What it is for.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// The same when it is delivered again.
    pub message_id: String,
    /// The topic.
    pub topic_arn: String,
    /// What the publisher gave as subject.
    pub subject: Option<String>,
    /// What was published: text, or JSON as text.
    pub message: String,
    /// When it was published.
    pub timestamp: String,
    /// What confirms a subscription: whoever has it can.
    pub token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    signature_version: Option<String>,
    signature: Option<String>,
    #[serde(rename = "SigningCertURL")]
    certificate_url: Option<String>,
}

impl Envelope {
    /// Reads a message.
    pub fn read(body: &[u8]) -> Result<Self, ParseError> {
        json::read(body)
    }

    /// When it was published.
    pub fn time(&self) -> Option<Timestamp> {
        self.timestamp.parse().ok()
    }

    /// Account and region of the topic.
    pub fn place(&self) -> (Option<&str>, Option<&str>) {
        let arn = Arn::parse(&self.topic_arn);
        (arn.map(|arn| arn.account), arn.map(|arn| arn.region))
    }

    /// What is signed.
    fn signed(&self) -> String {
        let is_notification = self.kind == Kind::Notification;
        let (subject, url, token) = (&self.subject, &self.subscribe_url, &self.token);
        let fields = [
            ("Message", Some(self.message.as_str())),
            ("MessageId", Some(&self.message_id)),
            ("Subject", subject.as_deref().filter(|_| is_notification)),
            ("SubscribeURL", url.as_deref().filter(|_| !is_notification)),
            ("Timestamp", Some(&self.timestamp)),
            ("Token", token.as_deref().filter(|_| !is_notification)),
            ("TopicArn", Some(&self.topic_arn)),
            ("Type", Some(self.kind.word())),
        ];
        fields.into_iter().filter_map(|(name, value)| Some(format!("{name}\n{}\n", value?))).collect()
    }

    /// The topic, if it is one of `topics`.
    pub fn topic<'t>(&self, topics: &'t [TopicArn]) -> Option<&'t TopicArn> {
        topics.iter().find(|topic| topic.as_str() == self.topic_arn)
    }

    /// Where the certificate is, if that is a place where SNS keeps those of this topic's region.
    fn certificate(&self, topics: &[TopicArn]) -> Option<SecretRef> {
        let url = self.certificate_url.as_deref()?;
        let place = format!("https://{}/SimpleNotificationService-", self.topic(topics)?.host());
        // As text, and not as a URL: there is one way to write it.
        let name = url.strip_prefix(&place)?.strip_suffix(".pem")?;
        let sound = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        sound.then(|| SecretRef::Certificate(url.to_owned()))
    }
}

/// Whether a request says that it is of SNS.
pub fn is_of_sns(request: &Request) -> bool {
    request.headers.contains_key("x-amz-sns-message-type") || request.headers.contains_key("x-amz-sns-rawdelivery")
}

/// The certificate by which a message of one of these topics is to be checked.
pub fn certificate_of(request: &Request, topics: &[TopicArn]) -> Option<SecretRef> {
    Envelope::read(&request.body).ok()?.certificate(topics)
}

/// Checks that a request is a message of one of these topics, and its signature by the certificate in `secrets`.
pub fn check(request: &Request, topics: &[TopicArn], secrets: &Resolved, now: Timestamp) -> Result<(), AuthError> {
    let missing = |why: &str| Err(AuthError::Missing(why.to_owned()));
    if request.headers.contains_key("x-amz-sns-rawdelivery") {
        return missing("the subscription has raw message delivery on, which leaves out the signature; switch it off");
    }
    let envelope = match Envelope::read(&request.body) {
        Ok(envelope) => envelope,
        Err(error) => return missing(&format!("this is no message of SNS: {error}")),
    };
    if envelope.topic(topics).is_none() {
        return missing("the message is of a topic that the source's `topics` do not name");
    }
    if envelope.time().is_none_or(|time| now.as_second().abs_diff(time.as_second()) > TOLERANCE) {
        return missing("the message's `Timestamp` is more than an hour away from our clock");
    }
    let Some(reference) = envelope.certificate(topics) else {
        return missing("the message's `SigningCertURL` is not where SNS keeps its certificates in the topic's region");
    };
    let algorithm: &dyn SignatureVerificationAlgorithm = match envelope.signature_version.as_deref() {
        Some("1") => &RsaSha1,
        Some("2") => webpki::ring::RSA_PKCS1_2048_8192_SHA256,
        _ => return missing("the message's `SignatureVersion` is neither 1 nor 2"),
    };
    let signature = envelope.signature.as_deref().and_then(|text| BASE64.decode(text.as_bytes()).ok());
    let Some(signature) = signature else { return missing("the message's `Signature` is missing, or not base64") };
    let fits = secrets.current(&reference).and_then(certificate).is_some_and(|der| {
        EndEntityCert::try_from(&der).is_ok_and(|certificate| {
            is_valid(&certificate, now)
                && certificate.verify_signature(algorithm, envelope.signed().as_bytes(), &signature).is_ok()
        })
    });
    if fits { Ok(()) } else { Err(AuthError::Mismatch("the message's `Signature` does not fit it".into())) }
}

/// The certificate in what is published as one (PEM).
pub fn certificate(published: &Secret) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(published.expose()).ok()
}

/// Whether this is a certificate for a server at this time. Its issuer is asked for last, and is unknown as nobody is
/// named whom we would trust.
fn is_valid(certificate: &EndEntityCert<'_>, now: Timestamp) -> bool {
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().unwrap_or_default()));
    let found = certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None);
    matches!(found, Err(webpki::Error::UnknownIssuer))
}

/// RSA with SHA-1, which is good for no certificate any more, but what SNS signs messages with unless told otherwise.
#[derive(Debug)]
struct RsaSha1;

impl SignatureVerificationAlgorithm for RsaSha1 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, key);
        key.verify(message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        // sha1WithRSAEncryption (RFC 8017, appendix C), and NULL.
        AlgorithmIdentifier::from_slice(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05\x05\x00")
    }
}
