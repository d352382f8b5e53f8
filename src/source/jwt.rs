//! Signed tokens: JWT (RFC 7519) as OpenID Connect has them, signed with RSA keys that the issuer publishes as a key
//! set (JWK, RFC 7517).
//!
//! Only `RS256` is known. What the token's own header asks for decides nothing: a token that names `none` is not signed,
//! and one that names `HS256` may be signed with the public key, which everybody has. Claims are not even looked at
//! before the signature fits.

use data_encoding::BASE64URL_NOPAD;
use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::auth::AuthError;
use crate::domain::secret::Secret;

/// How far the issuer's clock and ours may be apart.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// What a token has to say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who may have issued it.
    pub issuers: &'a [&'a str],
    /// Whom it may be for.
    pub audiences: &'a [String],
    /// Whose it may be, by verified mail address.
    pub emails: &'a [String],
}

#[derive(Deserialize)]
struct Header {
    alg: Option<String>,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    aud: Option<String>,
    email: Option<String>,
    email_verified: Option<bool>,
    iat: Option<i64>,
    exp: Option<i64>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

/// A key. Only a set that was made for trying things out has the private part, beginning with `d`.
#[derive(Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<String>,
    p: Option<String>,
    q: Option<String>,
    dp: Option<String>,
    dq: Option<String>,
    qi: Option<String>,
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text?.as_bytes()).ok()
}

impl Key {
    fn is_for_rs256(&self) -> bool {
        let is = |value: &Option<String>, word: &str| value.as_ref().is_none_or(|value| value == word);
        self.kty == "RSA" && is(&self.alg, "RS256") && is(&self.usage, "sig")
    }

    fn public(&self) -> Option<PublicKeyComponents<Vec<u8>>> {
        Some(PublicKeyComponents { n: bytes(self.n.as_ref())?, e: bytes(self.e.as_ref())? })
    }

    fn private(&self) -> Option<KeyPair> {
        let part = |text: &Option<String>| bytes(text.as_ref());
        let components = KeyPairComponents {
            public_key: self.public()?,
            d: part(&self.d)?,
            p: part(&self.p)?,
            q: part(&self.q)?,
            dP: part(&self.dp)?,
            dQ: part(&self.dq)?,
            qInv: part(&self.qi)?,
        };
        KeyPair::from_components(&components).ok()
    }
}

/// The keys for RS256 in a key set; what is no key set has none.
fn keys(set: &Secret) -> Vec<Key> {
    let set: Option<KeySet> = serde_json::from_slice(set.expose()).ok();
    set.into_iter().flat_map(|set| set.keys).filter(Key::is_for_rs256).collect()
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok()
}

/// Checks that one of the keys has signed `token`, and that it says what is expected.
///
/// # Errors
/// [`AuthError::Mismatch`] where the keys do not fit, so that newer ones may; else [`AuthError::Missing`].
pub fn check<'s>(
    token: &str,
    expected: &Expected<'_>,
    key_sets: impl Iterator<Item = &'s Secret>,
    now: Timestamp,
) -> Result<(), AuthError> {
    let refused = |why: &str| Err(AuthError::Missing(format!("the token in Authorization {why}")));
    let Some((signed, signature)) = token.rsplit_once('.') else { return refused("is no JWT") };
    let Some((header, claims)) = signed.split_once('.') else { return refused("is no JWT") };
    let (Some(header), Ok(signature)) = (part::<Header>(header), BASE64URL_NOPAD.decode(signature.as_bytes())) else {
        return refused("is no JWT");
    };
    if header.alg.as_deref() != Some("RS256") {
        return refused("is not signed with RS256");
    }
    if header.crit.is_some() {
        return refused("asks for an extension that is not known here");
    }
    let Some(kid) = header.kid else { return refused("does not say which key signed it") };
    let fits = |key: &Key| {
        let public = key.public().filter(|_| key.kid.as_ref() == Some(&kid));
        public.is_some_and(|key| key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).is_ok())
    };
    if !key_sets.flat_map(keys).any(|key| fits(&key)) {
        return Err(AuthError::Mismatch("no key of the issuer's fits the token in Authorization".into()));
    }
    let Some(claims) = part::<Claims>(claims) else { return refused("has no claims that can be read") };
    let among = |list: &[String], value: &Option<String>| value.as_ref().is_some_and(|value| list.contains(value));
    if !claims.iss.as_deref().is_some_and(|issuer| expected.issuers.contains(&issuer)) {
        return refused("is of another issuer");
    }
    if !among(expected.audiences, &claims.aud) {
        return refused("is for another audience");
    }
    if !among(expected.emails, &claims.email) {
        return refused("is of another service account");
    }
    if claims.email_verified != Some(true) {
        return refused("is of a service account whose address is not verified");
    }
    let time = |seconds: Option<i64>| Timestamp::from_second(seconds?).ok();
    let (Some(issued), Some(expires)) = (time(claims.iat), time(claims.exp)) else {
        return refused("does not say from when to when it is valid");
    };
    if now.duration_since(expires) >= LEEWAY {
        return refused("has expired");
    }
    if issued.duration_since(now) > LEEWAY {
        return refused("was issued in the future");
    }
    Ok(())
}

/// A token with these claims, signed by the first key of `set` whose private part is there: a set that was made for
/// trying things out. Who publishes keys keeps theirs.
///
/// # Errors
/// Says in a sentence what is missing.
pub fn sign(claims: &Value, set: &Secret) -> Result<String, String> {
    let keys = keys(set);
    let key = keys.iter().find_map(|key| Some((key.kid.as_deref(), key.private()?)));
    let (kid, key) = key.ok_or("the key set has no private key to sign with; only one made for trying has")?;
    let signed = unsigned(&json!({ "alg": "RS256", "kid": kid, "typ": "JWT" }), claims);
    Ok(format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature(&key, &signed)?)))
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn signature(key: &KeyPair, signed: &str) -> Result<Vec<u8>, String> {
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| "the key of the key set cannot sign")?;
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signature::{Algorithm, hmac};

    /// Made for these tests, and for nothing else.
    const THROW_AWAY: &str = include_str!("../../tests/data/throw-away-rsa-keys.json");
    const NOW: i64 = 1_787_220_360;

    fn key(index: usize) -> Value {
        serde_json::from_str::<Value>(THROW_AWAY).expect("JSON")[index].clone()
    }

    fn set(keys: &[Value]) -> Secret {
        Secret::new(json!({ "keys": keys }).to_string())
    }

    fn claims() -> Value {
        json!({
            "iss": "https://accounts.google.com", "aud": "https://relay.example.com/gcr",
            "email": "push@acme.iam.gserviceaccount.com", "email_verified": true, "iat": NOW, "exp": NOW + 3600,
        })
    }

    fn check_with(token: &str, sets: &[Secret]) -> Result<(), AuthError> {
        let (audiences, emails) =
            (["https://relay.example.com/gcr".to_owned()], ["push@acme.iam.gserviceaccount.com".to_owned()]);
        let expected = Expected {
            issuers: &["https://accounts.google.com", "accounts.google.com"],
            audiences: &audiences,
            emails: &emails,
        };
        check(token, &expected, sets.iter(), Timestamp::from_second(NOW).expect("time"))
    }

    fn with_claims(change: Value) -> Result<(), AuthError> {
        let mut claims = claims();
        for (name, value) in change.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        let set = set(&[key(0)]);
        check_with(&sign(&claims, &set).expect("signed"), &[set])
    }

    /// A token with this header, really signed by the first key.
    fn with_header(header: &Value) -> Result<(), AuthError> {
        let set = set(&[key(0)]);
        let key = keys(&set)[0].private().expect("key");
        let signed = unsigned(header, &claims());
        let signature = signature(&key, &signed).expect("signed");
        check_with(&format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature)), &[set])
    }

    fn missing(result: &Result<(), AuthError>, words: &str) {
        assert!(matches!(result, Err(AuthError::Missing(why)) if why.contains(words)), "{words}: {result:?}");
    }

    #[test]
    fn a_token_that_says_what_is_expected_is_accepted_in_both_spellings_of_the_issuer() {
        assert_eq!(with_claims(json!({})), Ok(()));
        assert_eq!(with_claims(json!({ "iss": "accounts.google.com", "sub": "1", "azp": "1" })), Ok(()));
    }

    /// Made by other code than ours: `samples/registries/gar-pubsub-insert.json` of the project's reference notes.
    #[test]
    fn a_token_that_others_made_is_accepted() {
        let sample: Value = serde_json::from_str(include_str!("../../tests/data/google-token.json")).expect("JSON");
        let text = |name: &str| sample[name].as_str().expect(name).to_owned();
        let (audiences, emails) = ([text("audience")], [text("email")]);
        let expected = Expected { issuers: &["https://accounts.google.com"], audiences: &audiences, emails: &emails };
        let sets = [Secret::new(sample["jwks"].to_string())];
        let now = Timestamp::from_second(sample["clock"].as_i64().expect("clock")).expect("time");
        assert_eq!(check(&text("token"), &expected, sets.iter(), now), Ok(()));
    }

    #[test]
    fn another_issuer_audience_or_account_is_refused_and_no_newer_key_is_asked_for() {
        for (claim, value, words) in [
            ("iss", json!("https://accounts.example.com"), "issuer"),
            ("iss", json!("https://accounts.google.com.example.com"), "issuer"),
            ("iss", Value::Null, "issuer"),
            ("aud", json!("https://relay.example.com/other"), "audience"),
            ("aud", json!(""), "audience"),
            ("aud", Value::Null, "audience"),
            ("email", json!("push@other.iam.gserviceaccount.com"), "service account"),
            ("email", Value::Null, "service account"),
            ("email_verified", json!(false), "not verified"),
            ("email_verified", Value::Null, "not verified"),
            ("email_verified", json!("true"), "can be read"),
        ] {
            missing(&with_claims(json!({ claim: value })), words);
        }
    }

    #[test]
    fn a_token_is_valid_from_its_issue_to_its_end_with_a_minute_of_leeway() {
        assert_eq!(with_claims(json!({ "exp": NOW - 59, "iat": NOW - 3659 })), Ok(()));
        missing(&with_claims(json!({ "exp": NOW - 60, "iat": NOW - 3660 })), "expired");
        assert_eq!(with_claims(json!({ "iat": NOW + 60 })), Ok(()));
        missing(&with_claims(json!({ "iat": NOW + 61 })), "future");
        for claim in ["exp", "iat"] {
            missing(&with_claims(json!({ claim: null })), "valid");
            missing(&with_claims(json!({ claim: i64::MAX })), "valid");
            missing(&with_claims(json!({ claim: "soon" })), "can be read");
        }
    }

    #[test]
    fn no_other_algorithm_than_rs256_is_taken_whatever_the_signature() {
        assert_eq!(with_header(&json!({ "alg": "RS256", "kid": "throw-away" })), Ok(()));
        for algorithm in ["none", "None", "HS256", "RS512", "PS256", "ES256", "rs256", ""] {
            missing(&with_header(&json!({ "alg": algorithm, "kid": "throw-away" })), "RS256");
        }
        missing(&with_header(&json!({ "kid": "throw-away" })), "RS256");
    }

    #[test]
    fn an_unsigned_token_and_one_signed_with_the_public_key_as_a_secret_are_refused() {
        let set = set(&[key(0)]);
        let none = unsigned(&json!({ "alg": "none", "kid": "throw-away" }), &claims());
        missing(&check_with(&format!("{none}."), std::slice::from_ref(&set)), "RS256");
        let header = json!({ "alg": "HS256", "kid": "throw-away" });
        let signed = unsigned(&header, &claims());
        for public in [key(0)["n"].as_str().expect("n").as_bytes(), set.expose()] {
            let mac = hmac(Algorithm::Sha256, &Secret::new(public), &[signed.as_bytes()]);
            let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac));
            missing(&check_with(&token, std::slice::from_ref(&set)), "RS256");
        }
    }

    #[test]
    fn extensions_that_have_to_be_understood_are_refused() {
        missing(&with_header(&json!({ "alg": "RS256", "kid": "throw-away", "crit": ["b64"] })), "extension");
    }

    #[test]
    fn an_unknown_key_a_wrong_key_and_no_key_ask_for_newer_keys() {
        let token = sign(&claims(), &set(&[key(0)])).expect("signed");
        let mut renamed = key(0);
        renamed["kid"] = "another".into();
        for sets in
            [vec![set(&[renamed])], vec![set(&[key(1)])], vec![set(&[])], vec![], vec![Secret::new("no key set")]]
        {
            assert!(matches!(check_with(&token, &sets), Err(AuthError::Mismatch(_))));
        }
        assert_eq!(check_with(&token, &[set(&[key(1)]), set(&[key(2), key(0)])]), Ok(()));
    }

    #[test]
    fn a_key_that_is_for_something_else_checks_nothing() {
        let token = sign(&claims(), &set(&[key(0)])).expect("signed");
        for (member, value) in [("use", "enc"), ("alg", "RS512"), ("kty", "oct"), ("n", "not base64!"), ("e", "")] {
            let mut other = key(0);
            other[member] = value.into();
            assert!(matches!(check_with(&token, &[set(&[other])]), Err(AuthError::Mismatch(_))), "{member}");
        }
    }

    #[test]
    fn a_token_without_the_name_of_its_key_is_refused() {
        missing(&with_header(&json!({ "alg": "RS256" })), "which key");
    }

    #[test]
    fn claims_that_were_changed_after_signing_are_refused() {
        let set = set(&[key(0)]);
        let token = sign(&claims(), &set).expect("signed");
        let parts: Vec<&str> = token.split('.').collect();
        let mut other = claims();
        other["email"] = "push@other.iam.gserviceaccount.com".into();
        let other = BASE64URL_NOPAD.encode(other.to_string().as_bytes());
        let forged = format!("{}.{other}.{}", parts[0], parts[2]);
        assert!(matches!(check_with(&forged, &[set]), Err(AuthError::Mismatch(_))));
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let set = set(&[key(0)]);
        let good = sign(&claims(), &set).expect("signed");
        for token in
            ["", ".", "..", "hunter2", "a.b.c", &format!("{good}="), &good.replace('.', " "), &format!("x.{good}")]
        {
            let refused = check_with(token, std::slice::from_ref(&set));
            missing(&refused, "no JWT");
            assert!(!format!("{refused:?}").contains("hunter2"));
        }
    }

    #[test]
    fn a_published_key_set_cannot_sign() {
        let mut public = key(0);
        public.as_object_mut().expect("key").remove("d");
        assert!(sign(&claims(), &set(&[public])).is_err());
    }
}
