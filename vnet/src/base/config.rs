//! What is wrong with a setting or a text that was given.

/// A setting that is out of range, or contradicts another one. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// The field or parameter in question, such as `rate_bps`.
    pub setting: &'static str,
    /// What is allowed, and what was given.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, message: impl Into<String>) -> ConfigError {
        let message = message.into();
        ConfigError { setting, message }
    }
}

/// A text that cannot be read as a value of the expected type; the message says what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl ParseError {
    pub(crate) fn new(message: impl Into<String>) -> ParseError {
        ParseError(message.into())
    }
}
