/**
 * AMD's architectures by the name of the instruction set that ROCm compiles for (`gfx90a`), as the catalogue names them.
 *
 * Source: LLVM, "User Guide for AMDGPU Backend", the table of processors.
 */
const families: readonly { readonly pattern: RegExp; readonly architecture: string }[] = [
  { pattern: /^gfx8/, architecture: 'gcn4' },
  // rocm-smi 6.0 prints gfx9010 for gfx90a and gfx9008 for gfx908.
  { pattern: /^gfx(90a|9010)$/, architecture: 'cdna2' },
  { pattern: /^gfx(908|9008)$/, architecture: 'cdna' },
  { pattern: /^gfx94/, architecture: 'cdna3' },
  { pattern: /^gfx95/, architecture: 'cdna4' },
  { pattern: /^gfx90/, architecture: 'gcn5' },
  { pattern: /^gfx101/, architecture: 'rdna' },
  { pattern: /^gfx103/, architecture: 'rdna2' },
  { pattern: /^gfx110/, architecture: 'rdna3' },
  { pattern: /^gfx115/, architecture: 'rdna3.5' },
  { pattern: /^gfx12/, architecture: 'rdna4' },
];

/** Processors with a GPU inside (Raven, Renoir, Van Gogh, Rembrandt, Raphael, Phoenix, Strix Point, Strix Halo, Krackan). */
const integrated = /^gfx(902|909|90c|1033|1035|1036|1037|1103|1150|1151|1152|1153)$/;

/** The architecture of `gfx1100`; null where it is not known. */
export function amdArchitecture(gfx: string): string | null {
  return families.find(({ pattern }) => pattern.test(gfx))?.architecture ?? null;
}

/** True for a GPU that shares the machine's memory with the CPU. */
export function isIntegratedGfx(gfx: string): boolean {
  return integrated.test(gfx);
}
