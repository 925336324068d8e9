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
    /// one f32, or a pair of bf16 of which both products are added.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    #[allow(clippy::too_many_arguments)] // the sizes and strides of one product
    pub fn run(self, rows: usize, inner: usize, a: &[Element], row: usize, step: usize, b: &[Element], tile: &mut [f32; TILE]) {
        assert!(rows > 0 && rows <= self.rows() && inner > 0);
        #[cfg(target_arch = "x86_64")]
        assert!(step == 1 || self.kind != Kind::Amx, "tiles are loaded from whole rows");
        assert!((rows - 1) * row + (inner - 1) * step < a.len() && inner * self.columns() <= b.len());
        #[cfg(target_arch = "x86_64")]
        {
            let (a, b, tile) = (a.as_ptr(), b.as_ptr(), tile.as_mut_ptr());
            // SAFETY: the kernels read a[r · row + i · step] for r < rows, and b[i, j], all inside their slices by the
            // assertions; they write ROWS · COLUMNS ≤ TILE numbers. A kind exists only where its instructions do.
            unsafe {
                match self.kind {
                    Kind::Library => {}
                    Kind::Avx2 => match rows {
                        ..=2 => x86::avx2::<2>(rows, inner, a, row, step, b, tile),
                        3..=4 => x86::avx2::<4>(rows, inner, a, row, step, b, tile),
                        _ => x86::avx2::<6>(rows, inner, a, row, step, b, tile),
                    },
                    Kind::Avx512 => match rows {
                        ..=4 => x86::avx512::<4>(rows, inner, a, row, step, b, tile),
                        5..=8 => x86::avx512::<8>(rows, inner, a, row, step, b, tile),
                        _ => x86::avx512::<12>(rows, inner, a, row, step, b, tile),
                    },
                    Kind::Amx => amx::bf16(rows, inner, a, row, b, tile),
                    Kind::Bf16 => match rows {
                        ..=4 => x86::bf16::<4>(rows, inner, a, row, step, b, tile),
                        5..=8 => x86::bf16::<8>(rows, inner, a, row, step, b, tile),
                        _ => x86::bf16::<12>(rows, inner, a, row, step, b, tile),
                    },
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
    use std::arch::x86_64::*;

    /// A kernel out of five instructions: nothing, load of a vector, one number in all lanes, multiply and add, store.
    macro_rules! micro_kernel {
        ($name:ident, $features:literal, $lanes:literal, $zero:expr, $load:expr, $splat:expr, $madd:expr, $store:expr) => {
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name<const ROWS: usize>(
                rows: usize,
                inner: usize,
                a: *const u32,
                row: usize,
                step: usize,
                b: *const u32,
                tile: *mut f32,
            ) {
                // a tile with fewer rows reads its last row again: its sums are not stored by the caller
                // SAFETY: r ≤ rows − 1, so every address lies in `a` by the caller's assertion.
                let a: [*const u32; ROWS] = std::array::from_fn(|r| unsafe { a.add(r.min(rows - 1) * row) });
                let mut sums = [[$zero(); 2]; ROWS];
                // SAFETY: i < inner, so a[.. + i · step] and b[i, ..] lie inside by the caller's assertion.
                unsafe {
                    macro_rules! product {
                        ($i:expr, $at:expr) => {{
                            let (i, at) = ($i, $at);
                            let (left, right) = ($load(b.add(i * 2 * $lanes)), $load(b.add(i * 2 * $lanes + $lanes)));
                            for r in 0..ROWS {
                                let x = $splat(*a[r].add(at));
                                sums[r] = [$madd(sums[r][0], x, left), $madd(sums[r][1], x, right)];
                            }
                        }};
                    }
                    if step == 1 {
                        let whole = inner - inner % 4;
                        let mut i = 0;
                        while i < whole {
                            product!(i, i);
                            product!(i + 1, i + 1);
                            product!(i + 2, i + 2);
                            product!(i + 3, i + 3);
                            i += 4;
                        }
                        while i < inner {
                            product!(i, i);
                            i += 1;
                        }
                    } else {
                        for i in 0..inner {
                            product!(i, i * step);
                        }
                    }
                    for r in 0..ROWS {
                        $store(tile.add(r * 2 * $lanes), sums[r][0]);
                        $store(tile.add(r * 2 * $lanes + $lanes), sums[r][1]);
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
