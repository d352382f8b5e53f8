//! The ways in which senders prove who they are. Only these checks make an [`Authentic`] request.

use std::ops::Deref;

use super::{Request, Via};
use crate::domain::secret::{Resolved, Secret, SecretRef};
use crate::domain::signature::{self, Algorithm, Encoding};
use crate::relay::format::{HeaderName, OneOrMany};

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

/// The value that a sender would use of these secrets: the current one of the first.
fn first<'a>(references: &[SecretRef], secrets: &'a Resolved) -> Result<&'a Secret, String> {
    let reference = references.first().ok_or("there is no secret")?;
    secrets.current(reference).ok_or_else(|| format!("the secret {reference} cannot be had"))
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

    /// Checks the header.
    pub fn authenticate<'r>(&self, request: &'r Request, secrets: &Resolved) -> Result<Authentic<'r>, AuthError> {
        header(request, self.name(), self.header.is_none(), &self.secret.0, secrets)
    }

    /// Adds the header, as a sender would.
    pub fn sign(&self, request: &mut Request, secrets: &Resolved) -> Result<(), String> {
        let secret = first(&self.secret.0, secrets)?;
        let value = secret.expose_text().ok_or("the secret is not text, as a header has to be")?;
        set_header(request, self.name(), value)
    }
}

crate::keys! {
    /// The keys of senders that can prove themselves by nothing but the URL that they send to.
    pub struct UrlKeys {
        /// The secret from which the URL's token is made; the tokens of several are accepted at once.
        secret: OneOrMany<SecretRef>,
    }
}

impl UrlKeys {
    /// Checks the URL token.
    pub fn authenticate<'r>(&self, request: &'r Request, secrets: &Resolved) -> Result<Authentic<'r>, AuthError> {
        url_token(request, &self.secret.0, secrets)
    }

    /// Adds the token to the URL.
    pub fn sign(&self, request: &mut Request, secrets: &Resolved) -> Result<(), String> {
        let secret = first(&self.secret.0, secrets)?;
        request.token = Some(signature::url_token(secret, request.source.as_str()));
        Ok(())
    }

    /// The secret from which the URL's token is made.
    pub fn url_secret(&self) -> Option<&SecretRef> {
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
