//! Durations and sizes as people write them: "250ms", "64MiB".

/// `#[serde(with = "duration")]`.
pub(super) mod duration {
    use core::time::Duration;
    use serde::{Deserialize, Deserializer, de};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|error| {
            de::Error::custom(format!("{text:?} is no duration like \"250ms\": {error}"))
        })
    }
}

/// `#[serde(with = "size")]`.
pub(super) mod size {
    use bytesize::ByteSize;
    use serde::{Deserialize, Deserializer, de};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<usize, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size: ByteSize = text
            .parse()
            .map_err(|_| de::Error::custom(format!("{text:?} is no size like \"64MiB\"")))?;
        usize::try_from(size.as_u64())
            .map_err(|_| de::Error::custom(format!("{text:?} is too large")))
    }
}

/// The same, or `off`.
pub(super) mod size_or_off {
    use serde::de::value::StringDeserializer;
    use serde::de::{Error, IntoDeserializer};
    use serde::{Deserialize, Deserializer};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<usize>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(None);
        }
        let text: StringDeserializer<D::Error> = text.into_deserializer();
        super::size::deserialize(text)
            .map(Some)
            .map_err(|error| D::Error::custom(format!("{error}, nor \"off\"")))
    }
}

/// A duration, or `off`.
pub(super) mod duration_or_off {
    use core::time::Duration;
    use serde::de::value::StringDeserializer;
    use serde::de::{Error, IntoDeserializer};
    use serde::{Deserialize, Deserializer};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(None);
        }
        let text: StringDeserializer<D::Error> = text.into_deserializer();
        super::duration::deserialize(text)
            .map(Some)
            .map_err(|error| D::Error::custom(format!("{error}, nor \"off\"")))
    }
}
