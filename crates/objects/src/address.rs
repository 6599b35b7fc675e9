//! `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY`.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    S3,
    Gcs,
    Azure,
}

impl Cloud {
    const ALL: [Self; 3] = [Self::S3, Self::Gcs, Self::Azure];

    /// As it is written in an address.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// Where something lies, or the folder that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub cloud: Cloud,
    /// A container in Azure.
    pub bucket: String,
    /// As the store knows it: nothing is decoded. Empty: the whole bucket.
    pub key: String,
}

impl Address {
    /// `None`: it is none of a store.
    ///
    /// # Errors
    /// It is one, and cannot be read: with the way out, and without what stands before an `@`.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once("://")?;
        let cloud = Cloud::ALL
            .into_iter()
            .find(|c| c.scheme().eq_ignore_ascii_case(scheme))?;
        Some(Self::of(cloud, rest))
    }

    fn of(cloud: Cloud, rest: &str) -> Result<Self, String> {
        let scheme = cloud.scheme();
        let form = format!(
            "{scheme}://{}/KEY is expected",
            if cloud == Cloud::Azure { "CONTAINER" } else { "BUCKET" }
        );
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') {
            return Err(format!(
                "{scheme}://…: {form}; credentials are read from the environment, never from an address"
            ));
        }
        let odd = |c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c);
        if bucket.is_empty() || bucket.contains(odd) {
            return Err(format!("{scheme}://{rest}: {form}"));
        }
        let segments = key.strip_suffix('/').unwrap_or(key).split('/');
        if !key.is_empty() && segments.clone().any(|s| s.is_empty() || s == "." || s == "..") {
            return Err(format!(
                "{scheme}://{rest}: a part between two '/' is empty, '.' or '..'"
            ));
        }
        Ok(Self {
            cloud,
            bucket: bucket.into(),
            key: key.into(),
        })
    }

    /// Another object of the same bucket.
    #[must_use]
    pub fn at(&self, key: &str) -> Self {
        Self {
            key: key.into(),
            ..self.clone()
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.cloud.scheme(), self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_stands() {
        let read = |text: &str| Address::parse(text).unwrap().unwrap();
        let told = read("s3://fleet/prod/a b%20?#.json.zst");
        assert_eq!(
            (told.bucket.as_str(), told.key.as_str()),
            ("fleet", "prod/a b%20?#.json.zst")
        );
        assert_eq!(told.to_string(), "s3://fleet/prod/a b%20?#.json.zst");
        assert_eq!(read("gs://fleet").key, "");
        assert_eq!(read("AZ://fleet/day/").key, "day/");
    }

    #[test]
    fn what_is_none_of_a_store_is_a_path() {
        for text in ["snapshot.json", "-", "C:\\x", "http://h/x", "s3:/bucket/x", "file:///x"] {
            assert!(Address::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn odd_ones_are_refused_without_their_secrets() {
        for text in [
            "s3://",
            "s3:///key",
            "s3://b//x",
            "s3://b/../x",
            "gs://b c/x",
            "az://con/./x",
        ] {
            assert!(Address::parse(text).unwrap().is_err(), "{text}");
        }
        let why = Address::parse("s3://AKIA:hunter2@bucket/x").unwrap().unwrap_err();
        assert!(!why.contains("hunter2") && why.contains("environment"), "{why}");
    }
}
