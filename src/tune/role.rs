//! The enum by which the settings name the blocks of a role: one line a block.

/// What blocks pass on to the blocks after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tune) enum What {
    /// Probabilities of the classes, and how sure they are.
    Answers,
    /// Pseudo-labels.
    Labels,
    /// How much each picture counts.
    Weights,
    /// A second source of posteriors.
    SecondSource,
    /// Image prototypes.
    Prototypes,
    /// Sets of candidate classes.
    Candidates,
}

impl What {
    /// What is missing, and the remedy.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Answers | Self::Labels | Self::Weights => "needs pseudo-labels",
            Self::SecondSource => "needs a second source of answers: put {\"prototypes\": {}} before it",
            Self::Prototypes => "needs image prototypes: put {\"prototypes\": {}} into refine",
            Self::Candidates => "needs candidate classes: put {\"candidates\": {}} into refine",
        }
    }
}

/// What the settings of a block say about its place in the list.
pub(in crate::tune) trait Flow {
    /// What it reads: answers, labels and weights are always there, the rest must come from a block before it.
    fn needs(&self) -> &'static [What] {
        &[]
    }

    /// What it adds or changes for the blocks after it.
    fn gives(&self) -> &'static [What] {
        &[]
    }

    /// Whether it does something even if no block reads what it gives: it chooses pictures.
    fn chooses(&self) -> bool {
        false
    }

    /// Whether its loss may be below 0, if it is a term.
    fn signed(&self) -> bool {
        false
    }
}

/// Writes the enum of a role. Each variant holds the settings of a block, a struct with two methods of its own:
/// `block(&self, &Setup) -> Result<Box<dyn Role>>` makes the block, `check(&self) -> Result<(), String>` says what cannot work.
/// The variant's line also makes the settings public, under the module that holds them.
/// In JSON a variant is `{"its_name": {its settings}}`, or `"its_name"` alone if each of its settings has a default.
macro_rules! role {
    ($(#[$doc:meta])* pub enum $name:ident: $role:ident { $($(#[$of:meta])* $variant:ident($module:ident::$settings:ident),)+ }) => {
        $(pub use $module::$settings;)+

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
            /// If the device has no memory left (Candle's).
            pub fn block(&self, setup: &$crate::tune::Setup) -> candle_core::Result<Box<dyn $role>> {
                match self {
                    $(Self::$variant(settings) => settings.block(setup),)+
                }
            }

            /// The names in the settings, in the order of the enum.
            pub(crate) fn names() -> Vec<String> {
                [$(stringify!($variant)),+].into_iter().map($crate::tune::role::snake_case).collect()
            }

            /// Its name in the settings.
            pub(in $crate::tune) fn name(&self) -> String {
                let written = serde_json::to_value(self).unwrap_or_default();
                written.as_object().and_then(|fields| fields.keys().next().cloned()).unwrap_or_default()
            }

            /// What it needs, and what it gives.
            pub(in $crate::tune) fn flow(&self) -> &dyn $crate::tune::role::Flow {
                match self {
                    $(Self::$variant(settings) => settings,)+
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

/// `TopShare` → `top_share`, as serde writes it.
pub(in crate::tune) fn snake_case(variant: &str) -> String {
    let parts = variant.char_indices().map(|(i, c)| if i > 0 && c.is_uppercase() { format!("_{c}") } else { c.to_string() });
    parts.collect::<String>().to_lowercase()
}

pub(super) use role;
