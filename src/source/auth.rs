//! The ways in which senders prove who they are. Only these checks make an [`Authentic`] request.

use std::ops::Deref;
use std::time::Duration;

use jiff::Timestamp;

use super::aws::TopicArn;
use super::{Request, Via, jwt, sns};
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::{At, HeaderName, OneOrMany, Problems};

/// A request whose sender has proved that it knows the source's secret.
#[derive(Debug)]
pub struct Authentic<'r>(&'r Request);

impl Deref for Authentic<'_> {
    type Target = Request;

    fn deref(&self) -> &Request {
        self.0
    }
}

/// Why a request was not believed. Says what to look at, never how close it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// What should prove it is not there, not of its form, or too old. No other secret would help.
    #[error("{0}")]
    Missing(String),
    /// It is of its form, but does not fit any secret that is accepted now. A newer secret may.
    #[error("{0}")]
    Mismatch(String),
}

/// How a signature stands in its header.
#[derive(Debug, Clone, Copy)]
pub struct SignatureHeader<'a> {
    /// The header's name.
    pub name: &'a str,
    /// What precedes the signature in it, such as `sha256=`.
    pub prefix: &'a str,
    /// The hash.
    pub algorithm: Algorithm,
    /// How the bytes are written.
    pub encoding: Encoding,
}

impl SignatureHeader<'_> {
    /// Adds the signature under the current value of `reference`, as a sender would.
    pub fn sign(&self, request: &mut Request, reference: &SecretRef, secrets: &Resolved) -> Result<(), String> {
        let body = request.body.clone();
        self.sign_over(request, &[&body], reference, secrets)
    }

    /// Adds the signature over `parts`, one after another, for senders that sign something else than the body.
    pub fn sign_over(
        &self,
        request: &mut Request,
        parts: &[&[u8]],
        reference: &SecretRef,
        secrets: &Resolved,
    ) -> Result<(), String> {
        let secret = secrets.current(reference).ok_or_else(|| format!("the secret {reference} cannot be had"))?;
        let mac = signature::hmac(self.algorithm, secret, parts);
        set_header(request, self.name, &format!("{}{}", self.prefix, self.encoding.encode(&mac)))
    }
}

/// Sets a header on a request that is made by hand.
pub fn set_header(request: &mut Request, name: &str, value: &str) -> Result<(), String> {
    let name = http::HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a header"))?;
    let value = http::HeaderValue::try_from(value).map_err(|_| format!("no header can carry the value for {name}"))?;
    request.headers.insert(name, value);
    Ok(())
}

/// The value that a sender would use of these secrets: the current one of the first.
fn first<'a>(references: &[SecretRef], secrets: &'a Resolved) -> Result<&'a Secret, String> {
    let reference = references.first().ok_or("there is no secret")?;
    secrets.current(reference).ok_or_else(|| format!("the secret {reference} cannot be had"))
}

/// Adds a header whose whole value is the current value of the first secret, as a sender would that cannot sign.
pub fn repeat(request: &mut Request, header: &str, references: &[SecretRef], secrets: &Resolved) -> Result<(), String> {
    let value = first(references, secrets)?.expose_text().ok_or("the secret is not text, as a header has to be")?;
    set_header(request, header, value)
}

/// An authentication scheme that several types share: its keys in the relay file, how it verifies, and how it signs.
pub trait Proof {
    /// Checks that the request comes from somebody who knows the secret.
    fn authenticate<'r>(&self, request: &'r Request, secrets: &Resolved) -> Result<Authentic<'r>, AuthError>;

    /// Adds to `request` what its sender would. The error says what is missing.
    fn sign(&self, request: &mut Request, secrets: &Resolved) -> Result<(), String>;

    /// Notes what is wrong with the keys in combination; `at` is the place of the entry.
    fn check(&self, _at: &At, _problems: &mut Problems) {}

    /// The secret from which the URL's token is made, if that is the proof.
    fn url_secret(&self) -> Option<&SecretRef> {
        None
    }
}

crate::keys! {
    /// The keys of senders that repeat a fixed value in a header.
    pub struct HeaderKeys {
        /// What the sender's header has to be, the whole of it; several are accepted at once.
        secret: OneOrMany<SecretRef>,
        /// The header whose whole value is the secret. Left out: `Authorization`, in which `Bearer` and the secret are
        /// accepted, too.
        header: Option<HeaderName>,
    }
}

impl HeaderKeys {
    fn name(&self) -> &str {
        self.header.as_ref().map_or("Authorization", |name| &name.0)
    }
}

impl Proof for HeaderKeys {
    fn authenticate<'r>(&self, request: &'r Request, secrets: &Resolved) -> Result<Authentic<'r>, AuthError> {
        header(request, self.name(), self.header.is_none(), &self.secret.0, secrets)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved) -> Result<(), String> {
        repeat(request, self.name(), &self.secret.0, secrets)
    }
}

crate::keys! {
    /// The keys of senders that log in with user name and password, or repeat a fixed value in a header.
    pub struct LoginKeys {
        ..proof: HeaderKeys,
        /// The user name of HTTP Basic, whose password is the secret. Left out: the secret is a header's whole value.
        username: Option<String>,
    }
}

impl Proof for LoginKeys {
    fn authenticate<'r>(&self, request: &'r Request, secrets: &Resolved) -> Result<Authentic<'r>, AuthError> {
        match &self.username {
            Some(username) => basic(request, username, &self.proof.secret.0, secrets),
            None => self.proof.authenticate(request, secrets),
        }
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved) -> Result<(), String> {
        let Some(username) = &self.username else { return self.proof.sign(request, secrets) };
        let password = first(&self.proof.secret.0, secrets)?;
        let credentials = [username.as_bytes(), b":", password.expose()].concat();
        set_header(request, "Authorization", &format!("Basic {}", Encoding::Base64.encode(&credentials)))
    }

    fn check(&self, at: &At, problems: &mut Problems) {
        if self.username.is_some() && self.proof.header.is_some() {
            problems.error(
                &at.child("header"),
                "with `username` the secret is the password of HTTP Basic, in Authorization",
            );
        }
    }
}

crate::words! {
    /// Whether the sender signs with its secret, or sends it as it is.
    pub enum Mode {
        /// It signs the body.
        Hmac = "hmac",
        /// It sends the secret in a header.
        Token = "token",
    }
}

crate::keys! {
    /// The keys of senders that can prove themselves by nothing but the URL that they send to.
    pub struct UrlKeys {
        /// The secret from which the URL's token is made; the tokens of several are accepted at once.
        secret: OneOrMany<SecretRef>,
    }
}

impl Proof for UrlKeys {
    fn authenticate<'r>(&self, request: &'r Request, secrets: &Resolved) -> Result<Authentic<'r>, AuthError> {
        url_token(request, &self.secret.0, secrets)
    }

    fn sign(&self, request: &mut Request, secrets: &Resolved) -> Result<(), String> {
        let secret = first(&self.secret.0, secrets)?;
        request.token = Some(signature::url_token(secret, request.source.as_str()));
        Ok(())
    }

    fn url_secret(&self) -> Option<&SecretRef> {
        self.secret.0.first()
    }
}

/// The length of a hash in bytes.
fn length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
        Algorithm::Sha512 => 64,
    }
}

/// The URL token under any of the secrets that are accepted now. For senders that can neither sign nor set a header.
pub fn url_token<'r>(
    request: &'r Request,
    references: &[SecretRef],
    secrets: &Resolved,
) -> Result<Authentic<'r>, AuthError> {
    let Some(presented) = &request.token else {
        return Err(AuthError::Missing("the URL token is missing: POST /{source}/{token}".into()));
    };
    let fits = |secret| {
        let token = Secret::new(signature::url_token(secret, request.source.as_str()));
        token.equals(presented.as_bytes())
    };
    if secrets.accepted(references).fold(false, |fitted, secret| fitted | fits(secret)) {
        Ok(Authentic(request))
    } else {
        Err(AuthError::Mismatch("the URL token does not fit".into()))
    }
}

/// A header whose whole value is any of the secrets that are accepted now. Where that is `Authorization` and `bearer`
/// is set, `Bearer <secret>` will do, too.
pub fn header<'r>(
    request: &'r Request,
    name: &str,
    bearer: bool,
    references: &[SecretRef],
    secrets: &Resolved,
) -> Result<Authentic<'r>, AuthError> {
    let Some(value) = request.header(name) else {
        return Err(AuthError::Missing(format!("the header {name} is missing, or there more than once")));
    };
    let inner = match value.split_once(' ') {
        Some((scheme, inner)) if bearer && scheme.eq_ignore_ascii_case("bearer") => Some(inner),
        _ => None,
    };
    let fits =
        |secret: &Secret| secret.equals(value.as_bytes()) | inner.is_some_and(|inner| secret.equals(inner.as_bytes()));
    if secrets.accepted(references).fold(false, |fitted, secret| fitted | fits(secret)) {
        Ok(Authentic(request))
    } else {
        Err(AuthError::Mismatch(format!("the value of {name} does not fit this source's secret")))
    }
}

/// HTTP Basic with this user name, and any of the secrets that are accepted now as password.
pub fn basic<'r>(
    request: &'r Request,
    username: &str,
    references: &[SecretRef],
    secrets: &Resolved,
) -> Result<Authentic<'r>, AuthError> {
    let credentials = request
        .header("authorization")
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| Encoding::Base64.decode(encoded.trim()));
    let Some(credentials) = credentials else {
        return Err(AuthError::Missing("the header Authorization with Basic credentials is missing".into()));
    };
    let fits =
        |secret: &Secret| Secret::new([username.as_bytes(), b":", secret.expose()].concat()).equals(&credentials);
    if secrets.accepted(references).fold(false, |fitted, secret| fitted | fits(secret)) {
        Ok(Authentic(request))
    } else {
        Err(AuthError::Mismatch("user name and password do not fit this source's".into()))
    }
}

/// A token in `Authorization: Bearer` that says what is expected, and that a key of the key sets has signed.
pub fn token<'r>(
    request: &'r Request,
    expected: &jwt::Expected<'_>,
    key_sets: &[SecretRef],
    secrets: &Resolved,
    now: Timestamp,
) -> Result<Authentic<'r>, AuthError> {
    let token = request.header("authorization").and_then(|value| value.split_once(' '));
    let Some((_, token)) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(AuthError::Missing("the header Authorization with a Bearer token is missing".into()));
    };
    jwt::check(token, expected, secrets.accepted(key_sets), now)?;
    Ok(Authentic(request))
}

/// A message of SNS over HTTPS, of one of these topics, that SNS has signed ([`sns::check`]).
pub fn sns<'r>(
    request: &'r Request,
    topics: &[TopicArn],
    secrets: &Resolved,
    now: Timestamp,
) -> Result<Authentic<'r>, AuthError> {
    sns::check(request, topics, secrets, now)?;
    Ok(Authentic(request))
}

/// An invocation of the function, which IAM has authenticated.
pub fn iam(request: &Request) -> Result<Authentic<'_>, AuthError> {
    match request.via {
        Via::Invocation => Ok(Authentic(request)),
        Via::Http => Err(AuthError::Missing("this source takes events by invocation only, not over HTTP".into())),
    }
}

/// An HMAC over the raw body in a header, under any of the secrets that are accepted now.
pub fn hmac<'r>(
    request: &'r Request,
    header: SignatureHeader<'_>,
    references: &[SecretRef],
    secrets: &Resolved,
) -> Result<Authentic<'r>, AuthError> {
    hmac_over(request, &[&request.body], header, references, secrets)
}

/// An HMAC over `parts`, one after another, in a header, for senders that sign something else than the body.
pub fn hmac_over<'r>(
    request: &'r Request,
    parts: &[&[u8]],
    header: SignatureHeader<'_>,
    references: &[SecretRef],
    secrets: &Resolved,
) -> Result<Authentic<'r>, AuthError> {
    let SignatureHeader { name, prefix, algorithm, encoding } = header;
    let values = request.headers.get_all(name).iter().count();
    if values == 0 {
        return Err(AuthError::Missing(format!("the header {name} is missing; is a secret set at the sender?")));
    }
    if values > 1 {
        return Err(AuthError::Missing(format!("the header {name} is there more than once")));
    }
    let signature = request
        .header(name)
        .and_then(|value| value.strip_prefix(prefix))
        .and_then(|text| encoding.decode(text))
        .filter(|bytes| bytes.len() == length(algorithm));
    let Some(signature) = signature else {
        return Err(AuthError::Missing(format!(
            "the header {name} is not of the form {prefix}<{encoding} of {algorithm}>"
        )));
    };
    let fits = |secret| signature::verify(algorithm, secret, parts, &signature);
    // Every secret is tried, whichever fits, so that the time taken says nothing about which one did.
    if secrets.accepted(references).fold(false, |fitted, secret| fitted | fits(secret)) {
        Ok(Authentic(request))
    } else {
        Err(AuthError::Mismatch(format!("the signature in {name} does not fit the body under this source's secret")))
    }
}

/// The headers of Standard Webhooks 1.0: the message's id, when it was sent (Unix seconds), and its signatures.
const STANDARD_WEBHOOKS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// The HMAC of Standard Webhooks: over `id.timestamp.body`, under what `secret` says in base64 after `whsec_` (which
/// some leave out). `None` where the secret is of another form, or empty.
fn standard_webhooks_mac(secret: &Secret, id: &str, timestamp: &str, body: &[u8]) -> Option<Vec<u8>> {
    let text = secret.expose_text()?;
    let key = Secret::new(Encoding::Base64.decode(text.strip_prefix("whsec_").unwrap_or(text))?);
    let parts: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
    (!key.is_empty()).then(|| signature::hmac(Algorithm::Sha256, &key, &parts))
}

/// Checks that `timestamp`, the Unix seconds in the header `name`, is not more than `tolerance` before or after `now`, so
/// that nobody can send again later what was signed with it.
///
/// # Errors
/// [`AuthError::Missing`] where it is, or is no number.
pub fn recent(name: &str, timestamp: &str, tolerance: Duration, now: Timestamp) -> Result<(), AuthError> {
    let sent: i64 = timestamp
        .parse()
        .map_err(|_| AuthError::Missing(format!("the header {name} is not of the form <Unix seconds>")))?;
    let tolerance = tolerance.as_secs();
    if now.as_second().abs_diff(sent) > tolerance {
        let why = format!("{name} is more than the tolerance of {tolerance} s away from our clock");
        return Err(AuthError::Missing(why));
    }
    Ok(())
}

/// A signature as Standard Webhooks has it, under any of the secrets that are accepted now. The header may list
/// several (the sender's way of rotation), and of other versions: one `v1` that fits will do. What was sent longer
/// than `tolerance` before or after `now` is refused.
pub fn standard_webhooks<'r>(
    request: &'r Request,
    tolerance: Duration,
    references: &[SecretRef],
    secrets: &Resolved,
    now: Timestamp,
) -> Result<Authentic<'r>, AuthError> {
    let header = |name: &str| {
        let value = request.header(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| AuthError::Missing(format!("the header {name} is missing, or there more than once")))
    };
    let [id, timestamp, signatures] = STANDARD_WEBHOOKS.map(header);
    let (id, timestamp, signatures) = (id?, timestamp?, signatures?);
    recent("webhook-timestamp", timestamp, tolerance, now)?;
    let presented: Vec<_> = signatures
        .split_ascii_whitespace()
        .filter_map(|one| one.strip_prefix("v1,"))
        .filter_map(|one| Encoding::Base64.decode(one))
        .filter(|bytes| bytes.len() == length(Algorithm::Sha256))
        .collect();
    if presented.is_empty() {
        return Err(AuthError::Missing(
            "the header webhook-signature lists no signature of the form v1,<base64 of sha256>".into(),
        ));
    }
    // One pass over the body for each secret, however many signatures are listed.
    let fits = |secret: &Secret| {
        let mac = standard_webhooks_mac(secret, id, timestamp, &request.body).map(Secret::new);
        mac.is_some_and(|mac| presented.iter().fold(false, |fitted, one| fitted | mac.equals(one)))
    };
    if secrets.accepted(references).fold(false, |fitted, secret| fitted | fits(secret)) {
        Ok(Authentic(request))
    } else {
        Err(AuthError::Mismatch(
            "no signature in webhook-signature fits id, time and body under this source's secret (whsec_ and base64)"
                .into(),
        ))
    }
}

/// Adds the headers of Standard Webhooks, signed under the current value of `reference`, as a sender would.
pub fn sign_standard_webhooks(
    request: &mut Request,
    id: &str,
    reference: &SecretRef,
    secrets: &Resolved,
    now: Timestamp,
) -> Result<(), String> {
    let secret = secrets.current(reference).ok_or_else(|| format!("the secret {reference} cannot be had"))?;
    let timestamp = now.as_second().to_string();
    let mac = standard_webhooks_mac(secret, id, &timestamp, &request.body)
        .ok_or_else(|| format!("the secret {reference} is not of the form whsec_<base64>"))?;
    let signature = format!("v1,{}", Encoding::Base64.encode(&mac));
    for (name, value) in STANDARD_WEBHOOKS.into_iter().zip([id, &timestamp, &signature]) {
        set_header(request, name, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;
    use crate::domain::name::Name;

    const SENT: i64 = 1_614_265_330;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn request(timestamp: &str, signatures: &str) -> Request {
        let mut headers = HeaderMap::new();
        let values = ["msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp, signatures];
        for (name, value) in STANDARD_WEBHOOKS.into_iter().zip(values) {
            headers.insert(name, value.parse().expect("header"));
        }
        Request {
            via: Via::Http,
            source: Name::parse("hooks").expect("name"),
            token: None,
            method: Method::POST,
            headers,
            body: Bytes::from_static(br#"{"test": 2432232314}"#),
            address: None,
        }
    }

    fn check(request: &Request, secret: &str, seconds_later: i64) -> Result<(), AuthError> {
        let reference = SecretRef::Env("HOOKS".into());
        let mut secrets = Resolved::default();
        secrets.insert(reference.clone(), vec![Secret::new(secret)]);
        let now = Timestamp::from_second(SENT + seconds_later).expect("time");
        standard_webhooks(request, Duration::from_secs(300), &[reference], &secrets, now).map(drop)
    }

    /// The vector of the reference implementations (standard-webhooks/standard-webhooks, libraries/*/tests).
    #[test]
    fn standard_webhooks_are_accepted_with_and_without_the_keys_prefix() {
        let request = request(&SENT.to_string(), SIGNATURE);
        assert_eq!(check(&request, SECRET, 0), Ok(()));
        assert_eq!(check(&request, &SECRET["whsec_".len()..], 0), Ok(()));
    }

    #[test]
    fn one_signature_that_fits_is_enough_whatever_stands_beside_it() {
        let other = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";
        for list in [format!("{other} {SIGNATURE}"), format!("v1a,AAAA v2,x v1, {SIGNATURE} {other}")] {
            assert_eq!(check(&request(&SENT.to_string(), &list), SECRET, 0), Ok(()), "{list}");
        }
        assert!(matches!(check(&request(&SENT.to_string(), other), SECRET, 0), Err(AuthError::Mismatch(_))));
    }

    #[test]
    fn the_tolerance_holds_in_both_directions() {
        let request = request(&SENT.to_string(), SIGNATURE);
        for (later, fine) in [(300, true), (-300, true), (301, false), (-301, false)] {
            let refused = check(&request, SECRET, later);
            assert_eq!(refused.is_ok(), fine, "{later}");
            assert!(fine || matches!(refused, Err(AuthError::Missing(_))), "{later}");
        }
    }

    #[test]
    fn headers_that_are_not_of_their_form_are_refused_as_such() {
        let unversioned = &SIGNATURE["v1,".len()..];
        for (timestamp, signatures) in [
            ("", SIGNATURE),
            ("soon", SIGNATURE),
            ("99999999999999999999", SIGNATURE),
            ("1614265330", ""),
            ("1614265330", unversioned),
            ("1614265330", "v1,zz"),
            ("1614265330", "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ] {
            let refused = check(&request(timestamp, signatures), SECRET, 0);
            assert!(matches!(refused, Err(AuthError::Missing(_))), "{timestamp} {signatures}: {refused:?}");
        }
        let mut twice = request("1614265330", SIGNATURE);
        twice.headers.append("webhook-signature", SIGNATURE.parse().expect("header"));
        assert!(matches!(check(&twice, SECRET, 0), Err(AuthError::Missing(_))));
    }

    #[test]
    fn a_key_that_is_empty_or_no_base64_fits_nothing() {
        for secret in ["whsec_", "", "whsec_not base64", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n"] {
            let mac =
                signature::hmac(Algorithm::Sha256, &Secret::new(""), &[b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{}"]);
            let mut request = request("1614265330", &format!("v1,{}", Encoding::Base64.encode(&mac)));
            request.body = Bytes::from_static(b"{}");
            assert!(matches!(check(&request, secret, 0), Err(AuthError::Mismatch(_))), "{secret}");
        }
    }

    #[test]
    fn what_is_signed_by_hand_is_accepted() {
        let reference = SecretRef::Env("HOOKS".into());
        let mut secrets = Resolved::default();
        secrets.insert(reference.clone(), vec![Secret::new(SECRET)]);
        let mut request = request("0", "none");
        let now = Timestamp::from_second(SENT).expect("time");
        sign_standard_webhooks(&mut request, "another", &reference, &secrets, now).expect("signed");
        assert_eq!(check(&request, SECRET, 0), Ok(()));
        request.headers.insert("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().expect("header"));
        assert!(check(&request, SECRET, 0).is_err(), "the id is signed, too");
    }
}
