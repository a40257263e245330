//! MD5-CRYPT (`$1$salt$hash`), Poul-Henning Kamp's of 1994: broken, and still in many a passwd-file.

use md5::{Digest, Md5};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const ROUNDS: usize = 1000;

/// The 22 characters of the hash. Of the salt the first eight bytes count.
pub(super) fn hash(password: &[u8], salt: &[u8]) -> [u8; 22] {
    let salt = &salt[..salt.len().min(8)];
    let mut sum: [u8; 16] = first(password, salt);
    for round in 0..ROUNDS {
        let (odd, mut md5) = (round % 2 == 1, Md5::new());
        md5.update(if odd { password } else { &sum[..] });
        if round % 3 != 0 {
            md5.update(salt);
        }
        if round % 7 != 0 {
            md5.update(password);
        }
        md5.update(if odd { &sum[..] } else { password });
        sum = md5.finalize().into();
    }
    encode(&sum)
}

fn first(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let other: [u8; 16] = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize().into();
    let mut md5 = Md5::new().chain_update(password).chain_update(b"$1$").chain_update(salt);
    for piece in password.chunks(16) {
        md5.update(&other[..piece.len()]);
    }
    // A mistake of the original's that became its definition: a zero byte or the password's first, by the bits of its length.
    let mut length = password.len();
    while length > 0 {
        md5.update(if length & 1 == 1 { &[0] } else { &password[..1] });
        length >>= 1;
    }
    md5.finalize().into()
}

/// Six bits a character, the least first, of the bytes in this order.
fn encode(sum: &[u8; 16]) -> [u8; 22] {
    const TRIPLES: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut out = [0; 22];
    let mut put = |at: usize, count: usize, mut bits: usize| {
        for place in &mut out[at..at + count] {
            *place = ALPHABET[bits & 63];
            bits >>= 6;
        }
    };
    for (at, triple) in TRIPLES.iter().enumerate() {
        let [high, middle, low] = triple.map(|byte| usize::from(sum[byte]));
        put(4 * at, 4, high << 16 | middle << 8 | low);
    }
    put(20, 2, usize::from(sum[11]));
    out
}
