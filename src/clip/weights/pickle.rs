//! Python's pickle format, as far as `torch.save` and `torch.jit.save` write it: values are built, nothing is executed.
//!
//! Memory is bounded by the length of the input: values that stand in several places are stored once, and none is ever copied.

use std::collections::HashMap;

/// Longest input, in bytes; the pickle of a training checkpoint of billions of weights has one or two million.
pub(super) const LONGEST: u64 = 1 << 23;
/// Most lists, maps and objects, and most of them that are named to be used again.
const MOST_NODES: usize = 1 << 21;

/// One value; what is larger than a word lies in a [`Heap`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// `None`, a float, a set, bytes: nothing that a tensor's description needs.
    Other,
    Int(i64),
    Text(&'a str),
    Node(usize),
}

/// What a [`Value::Node`] stands for.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A tuple or a list.
    List(Vec<Value<'a>>),
    /// A map, also an ordered one.
    Map(Vec<(Value<'a>, Value<'a>)>),
    /// The name of a class or a function: module, name.
    Global(&'a str, &'a str),
    /// The bytes of tensors: the class that names their number type, and the name of their file.
    Storage { kind: &'a str, key: &'a str },
    /// A view of a storage.
    Tensor(Described<'a>),
    /// An instance of some class with its attributes.
    Object { state: Value<'a>, items: Vec<(Value<'a>, Value<'a>)> },
}

/// A tensor as the pickle describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described<'a> {
    /// The storage's class ("FloatStorage"), or the number type itself ("float32").
    pub(super) kind: &'a str,
    /// The file with its bytes.
    pub(super) key: &'a str,
    /// First element in the storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements between neighbors, per axis.
    pub(super) strides: Vec<usize>,
}

/// All values of one pickle.
pub(super) struct Heap<'a> {
    nodes: Vec<Node<'a>>,
}

type Outcome<T> = Result<T, String>;

/// Reads one pickle; returns its value and the heap in which it lies.
///
/// # Errors
/// What is wrong with it, in a few words.
pub(super) fn read(input: &[u8]) -> Outcome<(Heap<'_>, Value<'_>)> {
    if input.len() as u64 > LONGEST {
        return Err(format!("its description of the tensors has {} bytes, more than {LONGEST}", input.len()));
    }
    let mut machine = Machine { rest: input, heap: Heap { nodes: Vec::new() }, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    while machine.step()? {}
    let value = machine.pop()?;
    Ok((machine.heap, value))
}

impl<'a> Heap<'a> {
    /// The node of a value; `None` for a value without one.
    pub(super) fn node(&self, value: Value) -> Option<&Node<'a>> {
        match value {
            Value::Node(index) => self.nodes.get(index),
            _ => None,
        }
    }

    fn list(&self, value: Value) -> Outcome<&[Value<'a>]> {
        match self.node(value) {
            Some(Node::List(values)) => Ok(values),
            _ => Err("a tuple is missing".into()),
        }
    }

    fn numbers(&self, value: Value) -> Outcome<Vec<usize>> {
        let number = |value: &Value| match value {
            Value::Int(number) => usize::try_from(*number).map_err(|_| format!("a tensor has the size {number}")),
            _ => Err("a tensor's size is not a number".to_string()),
        };
        self.list(value)?.iter().map(number).collect()
    }

    /// What a call of `module.name` makes.
    fn call(&self, (module, name): (&'a str, &'a str), arguments: Value<'a>) -> Outcome<Made<'a>> {
        let arguments = self.list(arguments)?;
        let get = |index: usize| arguments.get(index).copied().ok_or_else(|| format!("{module}.{name} lacks an argument"));
        Ok(match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3") => {
                let Some(Node::Storage { kind, key }) = self.node(get(0)?) else { return Err("a tensor lacks its storage".into()) };
                let Value::Int(offset) = get(1)? else { return Err("a tensor's offset is not a number".into()) };
                let offset = usize::try_from(offset).map_err(|_| "a tensor's offset is negative")?;
                // the third form names the number type apart from the storage
                let kind = match arguments.get(6).and_then(|value| self.node(*value)) {
                    Some(Node::Global("torch", dtype)) if name == "_rebuild_tensor_v3" => dtype,
                    _ => kind,
                };
                let (shape, strides) = (self.numbers(get(2)?)?, self.numbers(get(3)?)?);
                Made::New(Node::Tensor(Described { kind, key, offset, shape, strides }))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") | ("torch.jit._pickle", _) => Made::Known(get(0)?),
            ("torch._tensor", "_rebuild_from_type_v2") => match self.node(get(0)?) {
                Some(Node::Global(module, name)) if *name != "_rebuild_from_type_v2" => return self.call((module, name), get(2)?),
                _ => return Err("a tensor of an unknown kind".into()),
            },
            ("collections", "OrderedDict") => {
                let pairs = arguments.first().map_or(Ok(&[][..]), |pairs| self.list(*pairs))?;
                let pair = |value: &Value<'a>| match self.list(*value)? {
                    [key, value] => Ok((*key, *value)),
                    _ => Err("a pair is missing".to_string()),
                };
                Made::New(Node::Map(pairs.iter().map(pair).collect::<Outcome<_>>()?))
            }
            _ => Made::New(OBJECT),
        })
    }
}

/// What a call gives: something new, or a value that was there.
enum Made<'a> {
    New(Node<'a>),
    Known(Value<'a>),
}

/// An instance without attributes yet.
const OBJECT: Node<'static> = Node::Object { state: Value::Other, items: Vec::new() };

/// The stack machine that a pickle is a program of.
struct Machine<'a> {
    rest: &'a [u8],
    heap: Heap<'a>,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at which lists and maps begin.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Machine<'a> {
    /// One instruction; false at the end.
    fn step(&mut self) -> Outcome<bool> {
        let code = self.byte()?;
        match code {
            b'.' => return Ok(false),
            0x80 => self.skip(1)?, // the protocol's number
            0x95 => self.skip(8)?, // a frame's length
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?),
            b'2' => self.stack.push(self.top()?),
            // constants
            b'N' | b'}' | b']' | b')' | 0x8f | 0x88 | 0x89 => self.constant(code)?,
            b'K' => self.integer(1)?,
            b'M' => self.integer(2)?,
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            0x8a => self.long()?,
            b'G' => self.other(8)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'B' | b'T' => self.bytes(4)?,
            b'C' | b'U' => self.bytes(1)?,
            0x8e | 0x96 => self.bytes(8)?,
            // containers
            b't' | b'l' => {
                let values = self.marked()?;
                self.push(Node::List(values))?;
            }
            0x85..=0x87 => {
                let values = self.take(usize::from(code - 0x84))?;
                self.push(Node::List(values))?;
            }
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' => {
                let values = self.marked()?;
                self.append(values)?;
            }
            b's' => {
                let pair = self.take(2)?;
                self.insert(pair)?;
            }
            b'u' => {
                let pairs = self.marked()?;
                self.insert(pairs)?;
            }
            b'd' => {
                let pairs = self.marked()?;
                self.push(Node::Map(Vec::new()))?;
                self.insert(pairs)?;
            }
            0x90 => drop(self.marked()?), // items of a set
            0x91 => {
                self.marked()?;
                self.stack.push(Value::Other);
            }
            // what was met before
            b'q' => {
                let key = self.byte()?.into();
                self.memoize(key)?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.memoize(key)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'h' => {
                let key = self.byte()?.into();
                self.recall(key)?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            // classes, functions, objects
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(module, name))?;
            }
            0x93 => {
                let names = self.take(2)?;
                let [Value::Text(module), Value::Text(name)] = names[..] else { return Err("a class without a name".into()) };
                self.push(Node::Global(module, name))?;
            }
            b'Q' => self.storage()?,
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                self.construct(arguments)?;
            }
            0x92 => {
                self.pop()?; // arguments with names
                let arguments = self.pop()?;
                self.construct(arguments)?;
            }
            b'b' => self.build()?,
            other => return Err(format!("the instruction {other:#04x} at a place where PyTorch writes none")),
        }
        Ok(true)
    }

    fn constant(&mut self, code: u8) -> Outcome<()> {
        match code {
            b'}' => self.push(Node::Map(Vec::new())),
            b']' | b')' => self.push(Node::List(Vec::new())),
            _ => {
                self.stack.push(Value::Other);
                Ok(())
            }
        }
    }

    /// The value below becomes a call's result, or an instance without attributes yet.
    fn construct(&mut self, arguments: Value<'a>) -> Outcome<()> {
        let callee = self.pop()?;
        let made = match self.heap.node(callee) {
            Some(Node::Global(module, name)) => self.heap.call((module, name), arguments)?,
            _ => Made::New(OBJECT),
        };
        match made {
            Made::New(node) => self.push(node),
            Made::Known(value) => {
                self.stack.push(value);
                Ok(())
            }
        }
    }

    /// Attributes for the object below.
    fn build(&mut self) -> Outcome<()> {
        let given = self.pop()?;
        // classes with slots give their attributes as the first of two
        let attributes = match self.heap.node(given) {
            Some(Node::List(parts)) => parts.first().copied().unwrap_or(Value::Other),
            _ => given,
        };
        if let Some(Node::Object { state, .. }) = self.top_node() {
            *state = attributes;
        }
        Ok(())
    }

    /// `("storage", class, key, place, count)` becomes a storage.
    fn storage(&mut self) -> Outcome<()> {
        let id = self.pop()?;
        let [Value::Text("storage"), class, Value::Text(key), ..] = *self.heap.list(id)? else {
            return Err("a storage without a name".into());
        };
        let kind = match self.heap.node(class) {
            Some(Node::Global(_, name)) => *name,
            _ => return Err("a storage without a number type".into()),
        };
        self.push(Node::Storage { kind, key })
    }

    fn append(&mut self, new: Vec<Value<'a>>) -> Outcome<()> {
        match self.top_node() {
            Some(Node::List(values)) => values.extend(new),
            Some(_) => {} // a list of a class of its own
            None => return Err("items without a list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, new: Vec<Value<'a>>) -> Outcome<()> {
        let pairs = new.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        match self.top_node() {
            Some(Node::Map(entries) | Node::Object { items: entries, .. }) => entries.extend(pairs),
            _ => return Err("items without a map".into()),
        }
        Ok(())
    }

    fn top_node(&mut self) -> Option<&mut Node<'a>> {
        match self.stack.last() {
            Some(Value::Node(index)) => self.heap.nodes.get_mut(*index),
            _ => None,
        }
    }

    fn push(&mut self, node: Node<'a>) -> Outcome<()> {
        if self.heap.nodes.len() >= MOST_NODES {
            return Err(format!("it describes more than {MOST_NODES} objects"));
        }
        self.heap.nodes.push(node);
        self.stack.push(Value::Node(self.heap.nodes.len() - 1));
        Ok(())
    }

    fn top(&self) -> Outcome<Value<'a>> {
        self.stack.last().copied().ok_or_else(|| "a value is missing".into())
    }

    fn pop(&mut self) -> Outcome<Value<'a>> {
        self.stack.pop().ok_or_else(|| "a value is missing".into())
    }

    fn take(&mut self, count: usize) -> Outcome<Vec<Value<'a>>> {
        let start = self.stack.len().checked_sub(count).ok_or("a value is missing")?;
        Ok(self.stack.split_off(start))
    }

    fn marked(&mut self) -> Outcome<Vec<Value<'a>>> {
        let start = self.marks.pop().filter(|start| *start <= self.stack.len()).ok_or("a mark is missing")?;
        Ok(self.stack.split_off(start))
    }

    fn memoize(&mut self, key: u32) -> Outcome<()> {
        let value = self.top()?;
        if self.memo.len() >= MOST_NODES {
            return Err(format!("it names more than {MOST_NODES} objects"));
        }
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Outcome<()> {
        let value = self.memo.get(&key).copied().ok_or("a value is named before it is there")?;
        self.stack.push(value);
        Ok(())
    }

    fn byte(&mut self) -> Outcome<u8> {
        Ok(self.bite(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        self.bite(N)?.try_into().map_err(|_| "it ends too early".into())
    }

    fn bite(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(head)
    }

    fn skip(&mut self, count: usize) -> Outcome<()> {
        self.bite(count).map(drop)
    }

    /// A little-endian number of `width` bytes without a sign.
    fn unsigned(&mut self, width: usize) -> Outcome<usize> {
        let value = self.bite(width)?.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).map_err(|_| "it ends too early".into())
    }

    fn integer(&mut self, width: usize) -> Outcome<()> {
        let value = self.unsigned(width)?;
        self.stack.push(Value::Int(value as i64));
        Ok(())
    }

    /// An integer of any length; one that 64 bits do not hold is not a size of a tensor.
    fn long(&mut self) -> Outcome<()> {
        let width = self.unsigned(1)?;
        let bytes = self.bite(width)?;
        let filled = if bytes.last().is_some_and(|byte| *byte >= 0x80) { -1i64 } else { 0 };
        let value = bytes.iter().rev().fold(filled, |value, byte| value << 8 | i64::from(*byte));
        self.stack.push(if width <= 8 { Value::Int(value) } else { Value::Other });
        Ok(())
    }

    fn text(&mut self, width: usize) -> Outcome<()> {
        let length = self.unsigned(width)?;
        let text = std::str::from_utf8(self.bite(length)?).map_err(|_| "a text is not UTF-8")?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn bytes(&mut self, width: usize) -> Outcome<()> {
        let length = self.unsigned(width)?;
        self.other(length)
    }

    fn other(&mut self, length: usize) -> Outcome<()> {
        self.skip(length)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn line(&mut self) -> Outcome<&'a str> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or("it ends too early")?;
        let line = std::str::from_utf8(self.bite(end)?).map_err(|_| "a name is not UTF-8")?;
        self.skip(1)?;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_a_parameter_and_an_object_are_described() {
        let tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nHalfStorage\nX\x01\0\0\x007X\x03\0\0\0cpuK\x06tQK\x01K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR";
        let program = [b"\x80\x02ctorch._utils\n_rebuild_parameter\n(", &tensor[..], b"\x88Ntq\x01R."].concat();
        let (heap, value) = read(&program).unwrap();
        let expected = Described { kind: "HalfStorage", key: "7", offset: 1, shape: vec![2, 3], strides: vec![3, 1] };
        assert!(matches!(heap.node(value), Some(Node::Tensor(tensor)) if *tensor == expected), "{:?}", heap.nodes);
        let (heap, value) = read(b"\x80\x02c__torch__\nModule\n)\x81}X\x01\0\0\0aK\x05sb.").unwrap();
        let Some(Node::Object { state, .. }) = heap.node(value) else { panic!("{:?}", heap.nodes) };
        assert!(matches!(heap.node(*state), Some(Node::Map(entries)) if entries[..] == [(Value::Text("a"), Value::Int(5))]));
    }

    #[test]
    fn damage_is_an_error() {
        for input in
            [&b""[..], b".", b"\x80", b"h\0.", b"t.", b"\x86.", b"ctorch\n", b"X\xff\xff\xff\xffab", b")R.", b"\xfe.", b"]\x8c\x01\xffa."]
        {
            assert!(read(input).is_err(), "{input:?}");
        }
        assert!(read(b"ctorch._utils\n_rebuild_tensor_v2\n)R.").err().unwrap().contains("lacks an argument"));
    }

    #[test]
    fn doubling_and_nesting_take_no_memory() {
        // a list that holds itself's predecessor twice, 10,000 times; the same nested
        let doubling = [b"]q\0".to_vec(), b"0h\0h\0\x86q\0".repeat(10_000), b".".to_vec()].concat();
        let (heap, _) = read(&doubling).unwrap();
        assert_eq!(heap.nodes.len(), 10_001);
        let nested = [b"]".repeat(300_000), b"a".repeat(299_999), b".".to_vec()].concat();
        assert_eq!(read(&nested).unwrap().0.nodes.len(), 300_000);
    }
}
