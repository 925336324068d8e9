//! A model's chat template: Jinja, as transformers writes it.

use std::fmt;

use minijinja::{Environment, Error, ErrorKind, context};

/// A parsed template with the tokens it may name.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// A template that cannot be parsed fails when it is used: a model may still complete texts.
    pub(super) fn new(source: &str, bos: String, eos: String) -> Self {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        let raise = |message: String| -> Result<String, Error> { Err(Error::new(ErrorKind::InvalidOperation, message)) };
        environment.add_function("raise_exception", raise);
        environment.add_function("strftime_now", |format: String| date(&format));
        // a broken template is stored as one that raises its own error
        if let Err(error) = environment.add_template_owned("chat", without_generation(source)) {
            let line = error.to_string().lines().next().unwrap_or("no template").replace(['\'', '\\'], " ");
            let _ = environment.add_template_owned("chat", format!("{{{{ raise_exception('{line}') }}}}"));
        }
        Self { environment, bos, eos }
    }

    /// The text of a chat with one message by the user, up to where the answer begins; without thinking aloud first.
    pub(super) fn render(&self, message: &str) -> Result<String, Error> {
        let messages = [context! { role => "user", content => message }];
        self.environment.get_template("chat")?.render(context! {
            messages => messages,
            add_generation_prompt => true,
            enable_thinking => false,
            tools => (),
            documents => (),
            bos_token => self.bos,
            eos_token => self.eos,
        })
    }
}

/// Some templates write today's date. The same seed must give the same text on every day, so this is always one Friday: the
/// day that Llama 3.2's template names where it cannot ask.
fn date(format: &str) -> String {
    let parts = [
        ("%Y", "2024"),
        ("%y", "24"),
        ("%m", "07"),
        ("%d", "26"),
        ("%e", "26"),
        ("%j", "208"),
        ("%B", "July"),
        ("%b", "Jul"),
        ("%A", "Friday"),
        ("%a", "Fri"),
        ("%F", "2024-07-26"),
        ("%H", "12"),
        ("%I", "12"),
        ("%p", "PM"),
        ("%M", "00"),
        ("%S", "00"),
    ];
    parts.iter().fold(format.to_string(), |text, (mark, part)| text.replace(mark, part))
}

/// Transformers marks the answers that training counts with a tag of its own: `{% generation %} … {% endgeneration %}`.
fn without_generation(source: &str) -> String {
    let (mut plain, mut rest) = (String::new(), source);
    while let Some((before, (tag, behind))) = rest.split_once("{%").and_then(|(before, tag)| Some((before, tag.split_once("%}")?))) {
        let tag = match tag.trim_matches(['-', '+', ' ', '\n']) {
            "generation" => tag.replacen("generation", "if true", 1),
            "endgeneration" => tag.replacen("endgeneration", "endif", 1),
            _ => tag.to_string(),
        };
        plain += &format!("{before}{{%{tag}%}}");
        rest = behind;
    }
    plain + rest
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatTemplate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_as_models_bring_them() {
        let source = "{{ bos_token }}{%- for message in messages %}\n    {%- if message['role'] not in ['user', 'system'] %}{{ raise_exception('no') }}{% endif %}\n<|im_start|>{{ message['role'] }}\n{{ message['content'].strip() }}<|im_end|>\n{% endfor %}\n{%- if add_generation_prompt %}\n<|im_start|>assistant\n{%- if enable_thinking is defined and enable_thinking is false %}{{ '\\n<think>\\n\\n</think>\\n\\n' }}{% endif %}\n{%- endif %}";
        let template = ChatTemplate::new(source, "<s>".into(), String::new());
        let text = template.render(" Describe {{ an owl }}. ").unwrap();
        assert!(text.starts_with("<s>") && text.contains("<|im_start|>user\nDescribe {{ an owl }}.<|im_end|>"), "{text:?}");
        assert!(text.ends_with("<think>\n\n</think>\n\n"), "{text:?}");
    }

    #[test]
    fn what_transformers_gives_templates_is_there() {
        let render = |source: &str| ChatTemplate::new(source, String::new(), String::new()).render("A \"cat\"?").unwrap();
        assert_eq!(render("{% if tools is not none or documents is not none %}x{% endif %}y"), "y");
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}, {{ strftime_now('%A, %B %d, %Y') }}"), "26 Jul 2024, Friday, July 26, 2024");
        let marked =
            "{%- for m in messages -%} {%- generation -%} {{ m.content }} {%- endgeneration %}!{% endfor %}{% raw %}%}{% endraw %}";
        assert_eq!(render(marked), "A \"cat\"?!%}");
        assert_eq!(render("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}"), "A \"cat\"?");
        assert_eq!(render("{{ messages[0].role | tojson }}"), "\"user\"");
    }

    #[test]
    fn a_broken_template_is_an_error_when_used() {
        let template = ChatTemplate::new("{% for %}", String::new(), String::new());
        assert!(template.render("x").is_err());
    }
}
