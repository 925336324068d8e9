//! The enum by which the settings name the blocks of a role: one line a block.

/// Writes the enum of a role. Each variant holds the settings of a block, a struct with two methods of its own:
/// `block(&self, &Setup) -> Result<Box<dyn Role>>` makes the block, `check(&self) -> Result<(), String>` says what cannot work.
/// In JSON a variant is `{"its_name": {its settings}}`, or `"its_name"` alone if each of its settings has a default.
macro_rules! role {
    ($(#[$doc:meta])* pub enum $name:ident: $role:ident { $($(#[$of:meta])* $variant:ident($settings:ty),)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case", remote = "Self")] // the name alone is read below
        pub enum $name {
            $($(#[$of])* $variant($settings),)+
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let written = match serde_json::Value::deserialize(deserializer)? {
                    serde_json::Value::String(name) => serde_json::json!({ name: {} }),
                    written => written,
                };
                Self::deserialize(written).map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                Self::serialize(self, serializer)
            }
        }

        impl $name {
            /// The block, before its first step.
            ///
            /// # Errors
            /// Where the device has no memory left (Candle's).
            pub fn block(&self, setup: &$crate::tune::Setup) -> candle_core::Result<Box<dyn $role>> {
                match self {
                    $(Self::$variant(settings) => settings.block(setup),)+
                }
            }

            /// What cannot work, in one line.
            pub(in $crate::tune) fn check(&self) -> std::result::Result<(), String> {
                match self {
                    $(Self::$variant(settings) => settings.check(),)+
                }
            }
        }
    };
}

pub(super) use role;
