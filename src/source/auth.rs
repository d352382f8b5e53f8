//! The ways in which senders prove who they are. Only these checks make an [`Authentic`] request.

use std::ops::Deref;

use super::Request;
use crate::domain::secret::{Resolved, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};

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
    /// What should prove it is not there, or not of its form. No other secret would help.
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
        let secret = secrets.current(reference).ok_or_else(|| format!("the secret {reference} cannot be had"))?;
        let mac = signature::hmac(self.algorithm, secret, &[&request.body]);
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

/// The length of a hash in bytes.
fn length(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
        Algorithm::Sha512 => 64,
    }
}

/// An HMAC over the raw body in a header, under any of the secrets that are accepted now.
pub fn hmac<'r>(
    request: &'r Request,
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
    let fits = |secret| signature::verify(algorithm, secret, &[&request.body], &signature);
    // Every secret is tried, whichever fits, so that the time taken says nothing about which one did.
    if secrets.accepted(references).fold(false, |fitted, secret| fitted | fits(secret)) {
        Ok(Authentic(request))
    } else {
        Err(AuthError::Mismatch(format!("the signature in {name} does not fit the body under this source's secret")))
    }
}
