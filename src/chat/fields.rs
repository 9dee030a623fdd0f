//! What is wrong with a JSON object of a client, in words of JSON and of the protocol: a parser's own words are about types
//! that nobody has heard of who writes a client in another language.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field that an object has, or may have.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// What it is called.
    pub name: &'static str,
    kind: Kind,
    /// Whether it has to be there, and not null.
    pub is_needed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
}

impl Field {
    /// A text that has to be there.
    #[must_use]
    pub const fn text(name: &'static str) -> Self {
        Field { name, kind: Kind::Text, is_needed: true }
    }

    /// A whole number that has to be there.
    #[must_use]
    pub const fn number(name: &'static str) -> Self {
        Field { name, kind: Kind::Number, is_needed: true }
    }

    /// The same, but it may be absent or null.
    #[must_use]
    pub const fn or_absent(self) -> Self {
        Field { is_needed: false, ..self }
    }

    /// What is wrong with what was found in this place.
    fn fault(&self, found: Option<Shape>) -> Option<String> {
        let name = self.name;
        match (found.unwrap_or(Shape::Null), self.kind) {
            (Shape::Null, _) => self.is_needed.then(|| format!("missing field `{name}`")),
            (Shape::Text, Kind::Text) | (Shape::Number, Kind::Number) => None,
            (other, kind) => Some(format!("`{name}` must be {}, and is {}", kind.told(), other.told())),
        }
    }
}

impl Kind {
    fn told(self) -> &'static str {
        match self {
            Kind::Text => "a text",
            Kind::Number => "a whole number from 0 to 2^53 - 1",
        }
    }
}

/// What was found in the place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Null,
    Boolean,
    /// Whole, and not negative.
    Number,
    Negative,
    /// Or with an exponent, or larger than any whole number that is taken.
    Fraction,
    Text,
    List,
    Object,
}

impl Shape {
    fn told(self) -> &'static str {
        match self {
            Shape::Null => "null",
            Shape::Boolean => "true or false",
            Shape::Number => "a number",
            Shape::Negative => "a negative number",
            Shape::Fraction => "a number with a fraction or an exponent, or too large",
            Shape::Text => "a text",
            Shape::List => "a list",
            Shape::Object => "an object",
        }
    }
}

/// Reads an object. A list of the values of its fields, which a parser would take as well, is none.
///
/// # Errors
///
/// What is wrong with it, in a parser's words; [`fault`] has better ones.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    match json.trim_ascii_start().first() {
        Some(b'[') => Err(serde_json::Error::custom("it must be an object, and is a list")),
        _ => serde_json::from_slice(json),
    }
}

/// What is wrong with `json`, which should be an object with these fields and whatever others. `None` if nothing is: then
/// it is something else than its fields.
#[must_use]
pub fn fault(json: &[u8], fields: &[Field]) -> Option<String> {
    match serde_json::from_slice(json) {
        Ok(Found::Fields(found)) => fields.iter().find_map(|field| field.fault(found.get(field.name).copied())),
        Ok(Found::Other(shape)) => Some(format!("it must be an object, and is {}", shape.told())),
        // Of what is no JSON at all, a parser speaks in words of JSON.
        Err(err) => Some(err.to_string()),
    }
}

/// What was found in the place of an object.
#[derive(Debug)]
enum Found {
    Fields(BTreeMap<String, Shape>),
    Other(Shape),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Found::deserialize(deserializer)? {
            Found::Fields(_) => Shape::Object,
            Found::Other(shape) => shape,
        })
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

/// Takes whatever comes, and keeps no more of it than its shape and the shapes of its fields.
struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Other(Shape::Null))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Other(Shape::Boolean))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(Found::Other(Shape::Number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Other(Shape::Negative))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Other(Shape::Fraction))
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(Found::Other(Shape::Text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Other(Shape::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Found, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, shape)) = object.next_entry::<String, Shape>()? {
            fields.insert(name, shape);
        }
        Ok(Found::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_words() {
        const FIELDS: [Field; 3] =
            [Field::text("room"), Field::text("name").or_absent(), Field::number("n").or_absent()];
        for (json, expected) in [
            (r#"{"room":"a"}"#, None),
            (r#"{"room":"a","name":null,"n":null,"more":[{"x":[1,{}]},-1.5]}"#, None),
            (r#"{"room":"a","name":"b","n":18446744073709551615}"#, None),
            ("{}", Some("missing field `room`")),
            (r#"{"room":null}"#, Some("missing field `room`")),
            (r#"{"room":1}"#, Some("`room` must be a text, and is a number")),
            (r#"{"room":"a","name":true}"#, Some("`name` must be a text, and is true or false")),
            (r#"{"room":"a","name":["b"]}"#, Some("`name` must be a text, and is a list")),
            (r#"{"room":"a","name":{"b":1}}"#, Some("`name` must be a text, and is an object")),
            (r#"{"room":"a","n":"1"}"#, Some("`n` must be a whole number from 0 to 2^53 - 1, and is a text")),
            (r#"{"room":"a","n":-1}"#, Some("`n` must be a whole number from 0 to 2^53 - 1, and is a negative number")),
            (
                r#"{"room":"a","n":1.0}"#,
                Some(
                    "`n` must be a whole number from 0 to 2^53 - 1, and is a number with a fraction or an exponent, or too \
                     large",
                ),
            ),
            ("[]", Some("it must be an object, and is a list")),
            ("null", Some("it must be an object, and is null")),
            ("\"text\"", Some("it must be an object, and is a text")),
            ("", Some("EOF while parsing a value at line 1 column 0")),
            (r#"{"room":"a"} x"#, Some("trailing characters at line 1 column 14")),
        ] {
            assert_eq!(fault(json.as_bytes(), &FIELDS).as_deref(), expected, "{json}");
        }
    }
}
