//! Asks for the tokens that some requests need, and keeps each for the next ones until shortly before it ends.
//!
//! A token is given for a signed statement of who we are: a JWT (RFC 7515, 7519), RS256.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::BASE64URL_NOPAD;
use http::header::{AUTHORIZATION, HeaderValue};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::time::Instant;

use super::clock::SystemClock;
use super::nats::NatsSender;
use crate::domain::secret::Secret;
use crate::domain::signature;
use crate::port::{Clock as _, Connection, Dialer, Dialled, SendError, Sender};
use crate::target::{Outbound, Response, Statement, TokenRequest};

/// How long before its end a token is asked for anew.
const BEFORE_THE_END: Duration = Duration::from_secs(5 * 60);

/// Sends every request, those that need a token with one.
#[derive(Default)]
pub struct TokenSender {
    sender: NatsSender,
    /// The tokens by the names of what asks for them, and until when each is used.
    kept: Mutex<HashMap<String, (Secret, Timestamp)>>,
}

impl TokenSender {
    /// A sender that has no token yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn kept(&self, name: &str) -> Option<Secret> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, until)| *until > SystemClock.now());
        kept.get(name).map(|(token, _)| token.clone())
    }
}

#[async_trait]
impl Sender for TokenSender {
    /// An answer that refuses the token is the answer to the request that needs it.
    async fn send(
        &self,
        mut request: Outbound,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Response, SendError> {
        let Some(asked) = request.token.take() else { return self.sender.send(request, connection, timeout).await };
        let started = Instant::now();
        let name = name(&asked);
        let token = match self.kept(&name) {
            Some(token) => token,
            None => {
                let (stated, statement) = stated(*asked)?;
                let mut answer = self.sender.send(stated, connection, timeout).await.map_err(unasked)?;
                answer.mask(std::iter::once(statement.as_bytes()));
                if !(200..300).contains(&answer.status) {
                    return Ok(answer);
                }
                let given = given(&answer, SystemClock.now());
                let (token, ends) = given.ok_or_else(|| without_token(&"there is none in the answer"))?;
                let until = ends.checked_sub(BEFORE_THE_END).unwrap_or(ends);
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), (token.clone(), until));
                token
            }
        };
        let unusable = |error: crate::target::RenderError| SendError::Unusable(error.to_string());
        request.credential(AUTHORIZATION, &[b"Bearer ", token.expose()].concat()).map_err(unusable)?;
        let answer = self.sender.send(request, connection, timeout.saturating_sub(started.elapsed())).await;
        if matches!(&answer, Ok(Response { status: 401, .. })) {
            // It may have been taken back before its time.
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        }
        answer
    }
}

#[async_trait]
impl Dialer for TokenSender {
    /// Who gives tokens is dialled, too, and the key has to be one that signs.
    async fn dial(
        &self,
        request: &Outbound,
        connection: &Connection,
        timeout: Duration,
        soon: Duration,
    ) -> Result<Dialled, SendError> {
        let Some(asked) = &request.token else { return self.sender.dial(request, connection, timeout, soon).await };
        let (stated, _) = stated(asked.as_ref().clone())?;
        let both = futures_util::future::try_join(
            self.sender.dial(&stated, connection, timeout, soon),
            self.sender.dial(request, connection, timeout, soon),
        );
        let (giver, target) = both.await?;
        let ends = giver.ends.into_iter().chain(target.ends).min();
        Ok(Dialled { encrypted: giver.encrypted && target.encrypted, ends })
    }
}

/// Of the request itself nothing left, whatever became of the one for its token.
fn unasked(error: SendError) -> SendError {
    match error {
        SendError::TimedOut(_) | SendError::Broken(_) => without_token(&error),
        error => error,
    }
}

fn without_token(why: &dyn std::fmt::Display) -> SendError {
    SendError::Connect(format!("no token: {why}"))
}

/// What a token is kept under: whoever asks with another key, or as somebody else, asks for another one.
fn name(asked: &TokenRequest) -> String {
    let issuer = asked.claims["iss"].to_string();
    let scope = asked.claims["scope"].to_string();
    signature::sha256_hex(&[
        asked.request.url.as_bytes(),
        b"\n",
        issuer.as_bytes(),
        scope.as_bytes(),
        asked.key.expose(),
    ])
}

/// The request for a token, with the statement, and that by itself.
fn stated(asked: TokenRequest) -> Result<(Outbound, String), SendError> {
    let jwt = jwt(&asked.claims, &asked.key).map_err(|why| SendError::Unusable(format!("the private key {why}")))?;
    let mut request = asked.request;
    match asked.statement {
        Statement::Bearer => {
            let mut value = HeaderValue::try_from(format!("Bearer {jwt}"))
                .map_err(|error| SendError::Unusable(error.to_string()))?;
            value.set_sensitive(true);
            request.headers.insert(AUTHORIZATION, value);
        }
        Statement::Form => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
            form.append_pair("assertion", &jwt);
            request.set_body("application/x-www-form-urlencoded", form.finish());
        }
    }
    Ok((request, jwt))
}

/// `claims`, signed; an error completes «the private key …».
fn jwt(claims: &Value, key: &Secret) -> Result<String, &'static str> {
    let der = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| "is not PEM")?;
    let pair = match &der {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        _ => return Err("is not one of RSA"),
    };
    let pair = pair.map_err(|_| "is not one of RSA with 2048 bits or more")?;
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let signed = format!("{}.{}", encode(r#"{"alg":"RS256","typ":"JWT"}"#), encode(&claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    let sign = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature);
    sign.map_err(|_| "cannot sign")?;
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// The token in an answer, and when it ends: `token` and `expires_at` (GitHub), or `access_token` and `expires_in`
/// (RFC 6749, 5.1).
fn given(answer: &Response, now: Timestamp) -> Option<(Secret, Timestamp)> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let token = body["token"].as_str().or(body["access_token"].as_str()).filter(|token| !token.is_empty())?;
    let ends = match body["expires_at"].as_str() {
        Some(time) => time.parse().ok()?,
        None => now.checked_add(Duration::from_secs(body["expires_in"].as_u64()?)).ok()?,
    };
    Some((Secret::new(token), ends))
}
