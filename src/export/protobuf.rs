//! Messages in the wire format of Protocol Buffers, which ONNX files have: written only, field by field.

/// The fields of one message, as bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// How a field's value is laid out.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value as u64); // two's complement, as the format has negative numbers
        self
    }

    pub(super) fn ints(self, field: u64, values: &[i64]) -> Self {
        values.iter().fold(self, |message, value| message.int(field, *value))
    }

    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | FOUR_BYTES);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(self, field: u64, value: &Message) -> Self {
        self.bytes(field, &value.0)
    }

    fn bytes(self, field: u64, value: &[u8]) -> Self {
        let mut message = self.begin(field, value.len() as u64);
        message.0.extend(value);
        message
    }

    /// The start of a field whose `length` bytes the caller writes behind this message.
    pub(super) fn begin(mut self, field: u64, length: u64) -> Self {
        self.varint(field << 3 | LENGTH);
        self.varint(length);
        self
    }

    /// Another message's fields behind these.
    pub(super) fn append(mut self, other: &Message) -> Self {
        self.0.extend(&other.0);
        self
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_format() {
        // the examples of the format's own documentation: 150 in field 1, "testing" in field 2
        assert_eq!(Message::new().int(1, 150).as_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(Message::new().text(2, "testing").as_bytes(), b"\x12\x07testing");
        assert_eq!(Message::new().int(1, -1).len(), 11);
        let inner = Message::new().int(1, 150);
        assert_eq!(Message::new().message(3, &inner).as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::new().begin(3, 3).append(&inner).as_bytes(), Message::new().message(3, &inner).as_bytes());
    }
}
