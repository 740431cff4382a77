//! How producers choose a partition by the key, where they do as their libraries do by default. Java clients and
//! librdkafka (so those for Python, Go, .NET and Rust) do it differently: a join across both finds next to nothing.

/// How a producer chooses the partition of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// Murmur2: the default of Java clients; `murmur2_random` in librdkafka.
    Murmur2,
    /// CRC-32: the default of librdkafka, there called `consistent_random`.
    Crc32,
}

impl Partitioner {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Murmur2, Self::Crc32];

    /// Who does so by default.
    pub fn name(self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2, as Java clients",
            Self::Crc32 => "CRC-32, as librdkafka",
        }
    }

    /// What librdkafka calls it in its property `partitioner`.
    pub fn property(self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2_random",
            Self::Crc32 => "consistent_random",
        }
    }

    /// The partition of a key, of so many, greater than 0.
    pub fn partition(self, key: &[u8], partitions: i32) -> i32 {
        let hash = match self {
            Self::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Self::Crc32 => crc32fast::hash(key),
        };
        let of = i64::from(hash) % i64::from(partitions.max(1));
        i32::try_from(of).expect("less than the number of partitions")
    }
}

/// `MurmurHash2` of 32 bits with the seed of Kafka's Java client (Appleby 2008).
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let (blocks, rest) = key.as_chunks::<4>();
    let mut hash = SEED ^ length;
    for block in blocks {
        let mixed = u32::from_le_bytes(*block).wrapping_mul(M);
        let mixed = (mixed ^ mixed >> 24).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ mixed;
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes of `org.apache.kafka.common.utils.UtilsTest`.
    #[test]
    fn murmur2_is_that_of_the_java_client() {
        let known: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    /// The check value of CRC-32/ISO-HDLC.
    #[test]
    fn crc32_is_that_of_zlib() {
        let hash = 0xcbf4_3926_u32;
        let expected = i32::try_from(hash % 1_000_003).unwrap();
        assert_eq!(Partitioner::Crc32.partition(b"123456789", 1_000_003), expected);
        assert_eq!(Partitioner::Murmur2.partition(b"any", 1), 0);
    }
}
