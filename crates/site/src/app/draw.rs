//! Randomness: secrets and seeds, from the system. Ids are UUIDs and drawn where they are needed.

use ring::rand::{SecureRandom, SystemRandom};

use super::error::{AppError, Outcome};

/// 32 random bytes.
pub(crate) fn seed() -> Outcome<[u8; 32]> {
    let mut bytes = [0; 32];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|why| AppError::Fault("draw random bytes", why.to_string().into()))?;
    Ok(bytes)
}

/// A secret of 128 random bits, as hex.
pub(crate) fn secret() -> Outcome<String> {
    Ok(hex::encode(&seed()?[..16]))
}
