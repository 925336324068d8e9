//! What the processor can do at most: a loop of nothing but fused multiplications and additions, on all threads.
//!
//! The loop has 12 sums in registers, enough to keep two units of four cycles' latency busy, and reads no memory. Products are
//! compared with it in the same run, in turns, because other programs and the processor's own clock move both: least times count,
//! on the clock and of processor time, the second of which a busy machine hardly blurs. The clock's frequency comes from a chain of
//! integer multiplications, three cycles each.

use std::time::Instant;

use lafter::nn::Isa;

use super::cpu_seconds;

/// Turns of a loop: some ten milliseconds.
const TURNS: usize = 4_000_000;
const SUMS: usize = 12;

/// The loop of an instruction set, and the numbers in a register.
pub struct Limit {
    run: fn(),
    lanes: usize,
}

impl Limit {
    /// `None` where there is no kernel of our own to compare.
    #[cfg(target_arch = "x86_64")]
    pub fn of(isa: Isa) -> Option<Self> {
        // SAFETY: a value of `Isa` is the proof that this processor has its instructions.
        match format!("{:?}", isa.level()).as_str() {
            "Avx2" => Some(Self { run: || unsafe { x86::avx2() }, lanes: 8 }),
            "Avx512" => Some(Self { run: || unsafe { x86::avx512() }, lanes: 16 }),
            _ => None, // f32 is multiplied as with AVX-512
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn of(_: Isa) -> Option<Self> {
        None
    }
}

/// The best that a limit and the products next to it reached, in GFLOP/s: on the clock, and by processor time over all threads.
pub struct Best {
    limit: [f64; 2],
    gigahertz: f64,
    products: Vec<[f64; 2]>,
}

impl Best {
    pub fn new(products: usize) -> Self {
        Self { limit: [0.0; 2], gigahertz: 0.0, products: vec![[0.0; 2]; products] }
    }

    pub fn note_limit(&mut self, limit: &Limit) {
        let threads = rayon::current_num_threads();
        let operations = (2 * SUMS * TURNS * limit.lanes * threads) as f64;
        self.limit = faster(
            self.limit,
            measured(operations, || {
                rayon::broadcast(|_| (limit.run)());
            }),
        );
        self.gigahertz = self.gigahertz.max(gigahertz());
    }

    pub fn note<E>(&mut self, place: usize, operations: f64, work: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let mut result = Ok(());
        let one = measured(operations, || result = work());
        self.products[place] = faster(self.products[place], one);
        result
    }

    pub fn print(&self, isa: &str, place: usize, shape: &str) {
        let share = |which: usize| self.products[place][which] / self.limit[which];
        let line = serde_json::json!({
            "row": "fma", "isa": isa, "product": shape, "gflops": self.products[place][0], "limit": self.limit[0], "share": share(0),
            "cpu_gflops": self.products[place][1], "cpu_limit": self.limit[1], "cpu_share": share(1), "gigahertz": self.gigahertz,
            "threads": rayon::current_num_threads(),
        });
        println!("{line}");
    }
}

fn faster(one: [f64; 2], other: [f64; 2]) -> [f64; 2] {
    [one[0].max(other[0]), one[1].max(other[1])]
}

/// GFLOP/s on the clock, and by processor time as all threads together would have them.
fn measured(operations: f64, work: impl FnOnce()) -> [f64; 2] {
    let (started, used) = (Instant::now(), cpu_seconds());
    work();
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - used);
    [operations / seconds * 1e-9, operations / cpu * 1e-9 * rayon::current_num_threads() as f64]
}

/// Cycles of the moment: a chain of multiplications, each of which waits for the one before it.
#[cfg(target_arch = "x86_64")]
fn gigahertz() -> f64 {
    const CHAIN: usize = 2_000_000;
    let (started, mut x) = (Instant::now(), 3u64);
    for _ in 0..CHAIN / 8 {
        // SAFETY: registers only.
        unsafe {
            std::arch::asm!(
                "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}", "imul {x}, {x}",
                "imul {x}, {x}", x = inout(reg) x, options(pure, nomem, nostack)
            );
        }
    }
    std::hint::black_box(x);
    (3 * CHAIN) as f64 / started.elapsed().as_secs_f64() * 1e-9
}

#[cfg(not(target_arch = "x86_64"))]
fn gigahertz() -> f64 {
    f64::NAN
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    use super::TURNS;

    // written out, so that the limit is the same in every profile
    macro_rules! fma_loop {
        ($name:ident, $features:literal, $($sum:literal)*; $x:literal, $y:literal) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $name() {
                // SAFETY: only registers, all of which are named.
                unsafe {
                    asm!(
                        $(concat!("vxorps ", $sum, ", ", $sum, ", ", $sum),)*
                        concat!("vbroadcastss ", $x, ", xmm12"),
                        concat!("vbroadcastss ", $y, ", xmm13"),
                        "2:",
                        $(concat!("vfmadd231ps ", $sum, ", ", $x, ", ", $y),)*
                        "dec {turns}",
                        "jnz 2b",
                        turns = inout(reg) TURNS => _, inout("xmm12") 1e-3f32 => _, inout("xmm13") 0.5f32 => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
                        out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, options(nomem, nostack)
                    );
                }
            }
        };
    }

    fma_loop!(avx2, "avx2,fma", "ymm0" "ymm1" "ymm2" "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11"; "ymm12", "ymm13");
    fma_loop!(avx512, "avx512f,avx512dq", "zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7" "zmm8" "zmm9" "zmm10" "zmm11"; "zmm12", "zmm13");
}
