//! Randomness, from the operating system.

use data_encoding::HEXLOWER;

/// A number from 0 to 1; the middle where the system has no randomness to give.
#[allow(clippy::cast_precision_loss, reason = "32 bits fit the 52 of a mantissa")]
pub fn number() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

/// `bytes` random bytes in hex, for throw-away secrets and ids.
///
/// # Errors
/// Where the system has no randomness to give: then no secret must be made.
pub fn hex(bytes: usize) -> Result<String, getrandom::Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)?;
    Ok(HEXLOWER.encode(&random))
}
