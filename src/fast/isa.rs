//! Which vector instructions the CPU operations use: asked of the processor at run time, never of the build.

use std::sync::LazyLock;

/// A set of vector instructions that this processor has; a value of this type is the proof.
///
/// ```
/// use lafter_fast::Isa;
/// assert!(Isa::available().contains(&Isa::best()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

/// Ordered from plain to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[doc(hidden)]
pub enum Level {
    /// What the target has at least: SSE2 on x86-64, NEON on 64-bit Arm.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with products of bf16 pairs.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// The same, and products of bf16 in tile registers.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

#[cfg(target_arch = "x86_64")]
const LEVELS: [Level; 5] = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];
#[cfg(not(target_arch = "x86_64"))]
const LEVELS: [Level; 1] = [Level::Portable];

impl Isa {
    /// The environment variable that keeps [`best`](Self::best) from wider instructions than the one it names: `portable`,
    /// `avx2`, `avx512`, `avx512bf16`, `amx`. It is read once, and holds for what this crate computes itself; products left to
    /// Candle choose on their own.
    pub const LIMIT: &str = "LAFTER_MAX_ISA";

    /// The fastest that this processor has and [`LIMIT`](Self::LIMIT) allows.
    ///
    /// AVX-512's products of bf16 pairs belong to it on AMD's processors. Intel's have the instruction, but begin one in two
    /// cycles only and two products of f32 in each: bf16 would take twice as long there, unless they have AMX.
    pub fn best() -> Self {
        match limit().map_or(widest(), |limit| limit.min(widest())) {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 if !is_amd() => Self(Level::Avx512),
            level => Self(level),
        }
    }

    /// The plain path that every processor has.
    pub fn portable() -> Self {
        Self(Level::Portable)
    }

    /// All that this processor has, from plain to wide: a test runs each.
    pub fn available() -> Vec<Self> {
        LEVELS.into_iter().filter(|level| *level <= widest()).map(Self).collect()
    }

    /// Whether it multiplies pairs of bf16: only there does a layer packed in [`Precision::Bf16`](crate::Precision::Bf16)
    /// round its numbers; elsewhere it multiplies in f32.
    pub fn multiplies_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Level::Avx512Bf16 | Level::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    #[doc(hidden)]
    pub fn level(self) -> Level {
        self.0
    }
}

/// What [`Isa::LIMIT`] says; a name that is none of the levels' is told once and otherwise ignored.
fn limit() -> Option<Level> {
    static LIMIT: LazyLock<Option<Level>> = LazyLock::new(|| {
        let name = std::env::var(Isa::LIMIT).ok().filter(|name| !name.is_empty())?;
        let limit = LEVELS.into_iter().find(|level| name.eq_ignore_ascii_case(&format!("{level:?}")));
        if limit.is_none() {
            let known = LEVELS.map(|level| format!("{level:?}").to_lowercase()).join(", ");
            eprintln!("note: {}={name} is ignored: choose one of {known}", Isa::LIMIT);
        }
        limit
    });
    *LIMIT
}

fn widest() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        match (avx2, avx512) {
            (true, true) if is_x86_feature_detected!("avx512bf16") && has_tiles() => return Level::Amx,
            (true, true) if is_x86_feature_detected!("avx512bf16") => return Level::Avx512Bf16,
            (true, true) => return Level::Avx512,
            (true, false) => return Level::Avx2,
            (false, _) => {}
        }
    }
    Level::Portable
}

#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    /// Asked once: on a virtual machine the question goes to the host.
    static AMD: LazyLock<bool> = LazyLock::new(|| {
        let id = std::arch::x86_64::__cpuid(0);
        [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    });
    *AMD
}

/// Whether the processor has tile registers with products of bf16 (AMX), and the system lets this process use them: asked once.
#[cfg(target_arch = "x86_64")]
fn has_tiles() -> bool {
    static TILES: LazyLock<bool> = LazyLock::new(|| {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        let wanted = 1 << 22 | 1 << 24; // AMX-BF16, AMX-TILE
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & wanted == wanted && may_use_tiles()
    });
    *TILES
}

/// Linux gives a process the eight kilobytes of tile state when it asks for them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn may_use_tiles() -> bool {
    const REQUEST_PERMISSION: libc::c_long = 0x1023; // ARCH_REQ_XCOMP_PERM
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: asks for a permission and touches no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn may_use_tiles() -> bool {
    false
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// a·b + c, in one rounding if `FMA` says that the instructions have it (else that would be a call into the C library).
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Defines `fn name(isa, ..)` whose body, plain Rust on slices, is compiled once for each level, so that the compiler
/// turns its loops into that level's vectors. Inside the body `FMA` says whether a product and a sum are one instruction.
#[macro_export]
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $result)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<const FMA: bool>($($arg: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $type),*) $(-> $result)? {
                body::<true>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $type),*) $(-> $result)? {
                body::<true>($($arg),*)
            }

            match isa.level() {
                $crate::Level::Portable => body::<{ cfg!(target_arch = "aarch64") }>($($arg),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this level exists only if the processor has these instructions.
                $crate::Level::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                _ => unsafe { avx512($($arg),*) },
            }
        }
    };
}

/// Defines `fn name(..)` whose body is compiled as by [`vectorized!`], for the widest level here, in arithmetic that never
/// fuses a product with a sum (Rust never does so by itself): every level gives the same bits.
#[macro_export]
macro_rules! wide {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $result)? {
            $crate::vectorized! { fn on($($arg: $type),*) $(-> $result)? $body }
            on($crate::Isa::best(), $($arg),*)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "what the next test runs in a process of its own"]
    fn says_the_best() {
        println!("best {:?}", Isa::best().level());
    }

    #[test]
    fn the_variable_limits_what_is_used() {
        let best = |limit: &str| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "isa::tests::says_the_best", "--ignored", "--nocapture"]).env(Isa::LIMIT, limit);
            String::from_utf8(child.output().unwrap().stdout).unwrap()
        };
        assert!(best("portable").contains("best Portable"), "{}", best("portable"));
        let unlimited = format!("best {:?}", Isa(Isa::available().last().unwrap().0).level());
        assert!(best("").contains(&unlimited) || unlimited.contains("Bf16"), "{} {unlimited}", best(""));
    }
}
