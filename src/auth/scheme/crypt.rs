//! Hashes of crypt(3) and its kin, whose prefix says what they are: their form and their cost.

use super::{Cost, Stored};
use crate::auth::fault::Fault;

/// passlib writes 656,000 rounds by default; a million takes about half a second.
const MAX_SHA_ROUNDS: u32 = 1_000_000;
const MIN_SHA_ROUNDS: u32 = 1_000;
const DEFAULT_SHA_ROUNDS: u32 = 5_000;

/// 2^15 rounds take about two seconds.
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 4..=15;

/// In KiB: libsodium's "moderate" is 256 MiB. Each hash that is computed at the same time takes as much.
const MAX_ARGON2_MEMORY: u32 = 256 * 1024;
const MAX_ARGON2_PASSES: u32 = 16;
const MAX_ARGON2_LANES: u32 = 16;

/// A hash whose own prefix says what it is.
pub(super) fn crypt(value: &str) -> Result<(Stored, Cost), Fault> {
    if value.starts_with("$5$") || value.starts_with("$6$") {
        Ok((Stored::ShaCrypt(value.into()), sha_crypt_cost(value)?))
    } else if value.starts_with("$2a$") || value.starts_with("$2b$") || value.starts_with("$2y$") {
        Ok((Stored::Bcrypt(value.into()), bcrypt_cost(value)?))
    } else if value.starts_with("$argon2id$") || value.starts_with("$argon2i$") {
        Ok((Stored::Argon2(value.into()), argon2_cost(value)?))
    } else if value.starts_with("$1$") {
        md5(value)
    } else if value.starts_with(['!', '*']) {
        Ok((Stored::Locked, Cost::Cheap))
    } else {
        Err(Fault::UnknownHash)
    }
}

/// `$1$salt$hash`.
fn md5(value: &str) -> Result<(Stored, Cost), Fault> {
    let fields: Vec<&str> = value.splitn(5, '$').collect();
    let ["", "1", salt, hash] = fields[..] else { return Err(Fault::BadHash) };
    if hash.len() != 22 || salt.len() > 8 {
        return Err(Fault::BadHash);
    }
    Ok((Stored::Md5Crypt(salt.into(), hash.into()), Cost::Md5Crypt))
}

fn sha_crypt_cost(value: &str) -> Result<Cost, Fault> {
    let long = value.starts_with("$6$");
    let mut fields = value[3..].split('$').peekable(); // behind "$5$" or "$6$"
    let rounds = match fields.next_if(|field| field.starts_with("rounds=")) {
        Some(field) => field["rounds=".len()..].parse().map_err(|_| Fault::BadHash)?,
        None => DEFAULT_SHA_ROUNDS,
    };
    let (Some(salt), Some(hash), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err(Fault::BadHash);
    };
    if rounds > MAX_SHA_ROUNDS {
        return Err(Fault::TooCostly("more than 1,000,000 rounds"));
    }
    let whole = hash.len() == if long { 86 } else { 43 };
    if rounds < MIN_SHA_ROUNDS || salt.len() > 16 || !whole || sha_crypt::PasswordHashRef::new(value).is_err() {
        return Err(Fault::BadHash);
    }
    Ok(Cost::ShaCrypt { long, rounds })
}

fn bcrypt_cost(value: &str) -> Result<Cost, Fault> {
    let cost = value.parse::<bcrypt::HashParts>().map_err(|_| Fault::BadHash)?.get_cost();
    if cost > *BCRYPT_COST.end() {
        return Err(Fault::TooCostly("bcrypt with a cost above 15"));
    }
    if !BCRYPT_COST.contains(&cost) {
        return Err(Fault::BadHash);
    }
    Ok(Cost::Bcrypt(cost))
}

fn argon2_cost(value: &str) -> Result<Cost, Fault> {
    let hash = argon2::PasswordHash::new(value).map_err(|_| Fault::BadHash)?;
    let params = argon2::Params::try_from(&hash).map_err(|_| Fault::BadHash)?;
    let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
    if memory > MAX_ARGON2_MEMORY || passes > MAX_ARGON2_PASSES || lanes > MAX_ARGON2_LANES {
        return Err(Fault::TooCostly("argon2 above m=262144, t=16 or p=16"));
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(Fault::BadHash);
    }
    Ok(Cost::Argon2 { memory, passes, lanes })
}
