//! The micro-kernels: a tile of the product, held in vector registers.
//!
//! One kernel multiplies up to `ROWS` rows of A, read in place one number at a time, with a panel of `COLUMNS` columns of
//! B, packed so that its rows follow one another. The tile of sums stays in registers from the first product to the
//! last: 24 of AVX-512's 32 (12 × 32 numbers), 12 of AVX2's 16 (6 × 16), four of AMX's eight (32 × 32).

use super::Element;
#[cfg(target_arch = "x86_64")]
use super::amx;
use crate::isa::Level;
use crate::{Isa, Precision};

/// Numbers in the largest tile.
pub(super) const TILE: usize = 32 * 32;

/// A micro-kernel that this processor can run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel {
    isa: Isa,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No kernel of our own: the `gemm` crate, which has NEON and plain ones.
    Library,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Bf16,
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Kernel {
    /// The kernel for these instructions; if they lack bf16 products, that of f32.
    pub fn new(isa: Isa, precision: Precision) -> Self {
        let kind = match (isa.level(), precision) {
            (Level::Portable, _) => Kind::Library,
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, _) => Kind::Avx2,
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512Bf16, Precision::Bf16) => Kind::Bf16,
            #[cfg(target_arch = "x86_64")]
            (Level::Amx, Precision::Bf16) => Kind::Amx,
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512 | Level::Avx512Bf16 | Level::Amx, _) => Kind::Avx512,
        };
        Self { isa, kind }
    }

    pub fn isa(self) -> Isa {
        self.isa
    }

    pub fn is_library(self) -> bool {
        self.kind == Kind::Library
    }

    /// Whether its factors are pairs of bf16 instead of f32.
    pub fn is_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.kind, Kind::Bf16 | Kind::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Rows of a tile.
    pub fn rows(self) -> usize {
        match self.kind {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 6,
            #[cfg(target_arch = "x86_64")]
            Kind::Amx => amx::SIDE,
            _ => 12,
        }
    }

    /// Columns of a tile and of a panel of B.
    pub fn columns(self) -> usize {
        match self.kind {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 16,
            _ => 32,
        }
    }

    /// tile[r, j] = Σᵢ a[r · row + i · step] · b[i, j] for r < rows, j < [`columns`](Self::columns), i < inner; an element is
    /// one f32, or a pair of bf16 of which both products are added. While it multiplies, it fetches what lies at `ahead` into the
    /// second-level cache, a quarter of the length of `b`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    #[allow(clippy::too_many_arguments)] // the sizes and strides of one product
    pub fn run(
        self,
        rows: usize,
        inner: usize,
        a: &[Element],
        row: usize,
        step: usize,
        b: &[Element],
        ahead: &[Element],
        tile: &mut [f32; TILE],
    ) {
        assert!(rows > 0 && rows <= self.rows() && inner > 0);
        #[cfg(target_arch = "x86_64")]
        assert!(step == 1 || self.kind != Kind::Amx, "tiles are loaded from whole rows");
        assert!((rows - 1) * row + (inner - 1) * step < a.len() && inner * self.columns() <= b.len());
        #[cfg(target_arch = "x86_64")]
        {
            let (a, b, ahead, tile) = (a.as_ptr(), b.as_ptr(), ahead.as_ptr(), tile.as_mut_ptr());
            macro_rules! by_rows {
                ($kernel:ident) => {
                    match rows {
                        ..=2 => x86::$kernel::<1>(rows, inner, a, row, step, b, ahead, tile),
                        3..=4 => x86::$kernel::<2>(rows, inner, a, row, step, b, ahead, tile),
                        5..=6 => x86::$kernel::<3>(rows, inner, a, row, step, b, ahead, tile),
                        7..=8 => x86::$kernel::<4>(rows, inner, a, row, step, b, ahead, tile),
                        _ => x86::$kernel::<6>(rows, inner, a, row, step, b, ahead, tile),
                    }
                };
            }
            // SAFETY: the kernels read a[r · row + i · step] for r < rows, and b[i, j], all inside their slices by the
            // assertions; they write rows · COLUMNS ≤ TILE numbers. A kind exists only where its instructions do.
            unsafe {
                match self.kind {
                    Kind::Library => {}
                    Kind::Avx2 => match rows {
                        ..=2 => x86::avx2::<1>(rows, inner, a, row, step, b, ahead, tile),
                        3..=4 => x86::avx2::<2>(rows, inner, a, row, step, b, ahead, tile),
                        _ => x86::avx2::<3>(rows, inner, a, row, step, b, ahead, tile),
                    },
                    Kind::Avx512 => by_rows!(avx512),
                    Kind::Bf16 => by_rows!(bf16),
                    Kind::Amx => amx::bf16(rows, inner, a, row, b, tile),
                }
            }
        }
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.kind.fmt(f)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    /// A kernel out of five instructions: nothing, load of a vector, one number in all lanes, multiply and add, store.
    ///
    /// It adds up two halves of `HALF` rows, each at an address of its own: an address for every row would take more registers than
    /// there are. With less than 2 · `HALF` rows the halves overlap, and what both add up is stored twice.
    macro_rules! micro_kernel {
        ($name:ident, $features:literal, $lanes:literal, $zero:expr, $load:expr, $splat:expr, $madd:expr, $store:expr) => {
            #[target_feature(enable = $features)]
            #[allow(clippy::too_many_arguments, clippy::pointers_in_nomem_asm_block)] // see `Kernel::run`; the assembly is a comment
            pub(super) unsafe fn $name<const HALF: usize>(
                rows: usize,
                inner: usize,
                a: *const u32,
                row: usize,
                step: usize,
                b: *const u32,
                ahead: *const u32,
                tile: *mut f32,
            ) {
                const WIDTH: usize = 2 * $lanes;
                let second = rows.saturating_sub(HALF);
                let mut sums = [[[$zero(); 2]; HALF]; 2];
                // SAFETY: r < HALF ≤ rows and i < inner, so a[(second + r) · row + i · step] and b[i, ..] lie inside by the caller's
                // assertion; the address that is fetched ahead need not exist.
                unsafe {
                    let mut halves = [a, a.add(second * row)];
                    let (mut b, mut ahead) = (b, ahead);
                    macro_rules! product {
                        ($i:literal) => {{
                            let (left, right) = ($load(b.add($i * WIDTH)), $load(b.add($i * WIDTH + $lanes)));
                            for (half, sums) in halves.iter().zip(&mut sums) {
                                for (r, sums) in sums.iter_mut().enumerate() {
                                    let x = $splat(*half.add(r * row + $i));
                                    *sums = [$madd(sums[0], x, left), $madd(sums[1], x, right)];
                                }
                            }
                        }};
                    }
                    // tells the compiler nothing of where the halves are, or it would turn them into an address a row
                    macro_rules! keep_two_addresses {
                        () => {
                            asm!("/* {0} {1} */", inout(reg) halves[0], inout(reg) halves[1], options(nomem, nostack, preserves_flags))
                        };
                    }
                    let fours = if step == 1 { inner / 4 } else { 0 };
                    for _ in 0..fours {
                        keep_two_addresses!();
                        for _ in 0..$lanes / 8 {
                            _mm_prefetch::<_MM_HINT_T1>(ahead.cast());
                            ahead = ahead.wrapping_add(16);
                        }
                        product!(0);
                        product!(1);
                        product!(2);
                        product!(3);
                        halves = halves.map(|half| half.add(4));
                        b = b.add(4 * WIDTH);
                    }
                    for _ in 4 * fours..inner {
                        keep_two_addresses!();
                        product!(0);
                        halves = halves.map(|half| half.wrapping_add(step));
                        b = b.add(WIDTH);
                    }
                    for (first, sums) in [0, second].into_iter().zip(sums) {
                        for (r, [left, right]) in sums.into_iter().enumerate() {
                            let to = tile.add((first + r) * WIDTH);
                            $store(to, left);
                            $store(to.add($lanes), right);
                        }
                    }
                }
            }
        };
    }

    micro_kernel!(
        avx2,
        "avx2,fma",
        8,
        _mm256_setzero_ps,
        |b: *const u32| _mm256_loadu_ps(b.cast()),
        |x: u32| _mm256_set1_ps(f32::from_bits(x)),
        |sum, x, y| _mm256_fmadd_ps(x, y, sum),
        |c, sum| _mm256_storeu_ps(c, sum)
    );
    micro_kernel!(
        avx512,
        "avx512f,avx512vl,avx512bw,avx512dq,fma",
        16,
        _mm512_setzero_ps,
        |b: *const u32| _mm512_loadu_ps(b.cast()),
        |x: u32| _mm512_set1_ps(f32::from_bits(x)),
        |sum, x, y| _mm512_fmadd_ps(x, y, sum),
        |c, sum| _mm512_storeu_ps(c, sum)
    );
    micro_kernel!(
        bf16,
        "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma",
        16,
        _mm512_setzero_ps,
        |b: *const u32| std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.cast())),
        |x: u32| std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.cast_signed())),
        |sum, x, y| _mm512_dpbf16_ps(sum, x, y),
        |c, sum| _mm512_storeu_ps(c, sum)
    );
}
