/**
 * Names of GPUs by PCI vendor and device, as the catalogue spells them: for what sysfs shows where no tool gives a name.
 *
 * Source: the PCI ID repository (pci-ids.ucw.cz). Only parts that the catalogue knows, and processors with a GPU inside.
 */

export type PciGpu = {
  /** One name, or several parts of one id that differ in memory [GiB]. */
  readonly parts: readonly { readonly name: string; readonly memoryGib: number | null }[];
  /** True where it uses the machine's memory. */
  readonly integrated: boolean;
};

const part = (name: string): PciGpu => ({ parts: [{ name, memoryGib: null }], integrated: false });
const integrated = (name?: string): PciGpu => ({
  parts: name === undefined ? [] : [{ name, memoryGib: null }],
  integrated: true,
});

const pciGpus: Readonly<Record<string, PciGpu>> = {
  '1002:738c': part('MI100'),
  '1002:740c': part('MI250X'),
  '1002:7408': part('MI250X'),
  '1002:740f': part('MI210'),
  '1002:74a0': part('MI300A'),
  '1002:74a1': part('MI300X'),
  '1002:74b5': part('MI300X'),
  '1002:74a2': part('MI308X'),
  '1002:74a5': part('MI325X'),
  '1002:75a0': part('MI350X'),
  '1002:75a3': part('MI355X'),
  '1002:7448': part('Radeon PRO W7900'),
  '1002:73a1': part('Radeon PRO V620'),
  // One id for three cards; only the largest has 24 GiB.
  '1002:744c': {
    parts: [
      { name: 'Radeon RX 7900 XTX', memoryGib: 24 },
      { name: 'Radeon RX 7900 XT', memoryGib: 20 },
      { name: 'Radeon RX 7900 GRE', memoryGib: 16 },
    ],
    integrated: false,
  },
  '1002:1681': integrated('Radeon 680M'),
  '1002:1586': integrated('Strix Halo'),
  // Strix Point, Phoenix, Hawk Point, Krackan, Raphael, Granite Ridge, Mendocino, Van Gogh, Barcelo, Cezanne, Lucienne,
  // Renoir, Picasso, Raven
  ...Object.fromEntries(
    [
      '150e',
      '15bf',
      '15c8',
      '1900',
      '1901',
      '1114',
      '164e',
      '13c0',
      '1506',
      '163f',
      '1435',
      '15e7',
      '1638',
      '164c',
      '1636',
      '15d8',
      '15dd',
    ].map((device) => [`1002:${device}`, integrated()]),
  ),
  '8086:56a0': { parts: [{ name: 'Arc A770', memoryGib: null }], integrated: false },
  '8086:56a1': part('Arc A750'),
  '8086:56c0': part('Flex 170'),
  '8086:e20b': part('Arc B580'),
  '8086:e211': part('Arc Pro B60'),
  '8086:0bd5': part('Max 1550'),
  '8086:0bda': part('Max 1100'),
  '10de:1b38': part('Tesla P40'),
  '10de:1bb3': part('Tesla P4'),
  '10de:1eb8': part('Tesla T4'),
  '10de:1db1': part('Tesla V100-SXM2-16GB'),
  '10de:1db4': part('Tesla V100-PCIE-16GB'),
  '10de:1db5': part('Tesla V100-SXM2-32GB'),
  '10de:1db6': part('Tesla V100-PCIE-32GB'),
  '10de:20b0': part('NVIDIA A100-SXM4-40GB'),
  '10de:20b2': part('NVIDIA A100-SXM4-80GB'),
  '10de:20b5': part('NVIDIA A100 80GB PCIe'),
  '10de:20b7': part('NVIDIA A30'),
  '10de:20f1': part('NVIDIA A100-PCIE-40GB'),
  '10de:2204': part('NVIDIA GeForce RTX 3090'),
  '10de:2233': part('NVIDIA RTX A5500'),
  '10de:2235': part('NVIDIA A40'),
  '10de:2236': part('NVIDIA A10'),
  '10de:2237': part('NVIDIA A10G'),
  '10de:2321': part('NVIDIA H100 NVL'),
  '10de:2330': part('NVIDIA H100 80GB HBM3'),
  '10de:2331': part('NVIDIA H100 PCIe'),
  '10de:2335': part('NVIDIA H200'),
  '10de:2684': part('NVIDIA GeForce RTX 4090'),
  '10de:26b5': part('NVIDIA L40'),
  '10de:26b9': part('NVIDIA L40S'),
  '10de:27b8': part('NVIDIA L4'),
  '10de:2901': part('NVIDIA B200'),
  '10de:2b85': part('NVIDIA GeForce RTX 5090'),
};

/** The entry of `1002:1681`; undefined where the table does not have it. */
export function pciGpu(pciId: string | null): PciGpu | undefined {
  return pciId !== null && Object.hasOwn(pciGpus, pciId) ? pciGpus[pciId] : undefined;
}

/** The name of a part with this much memory; '' where it is not known. */
export function pciName(pciId: string | null, memoryMb: number | null): string {
  const parts = pciGpu(pciId)?.parts ?? [];
  const fits = (gib: number | null) =>
    gib === null || (memoryMb !== null && memoryMb / 1024 > 0.9 * gib && memoryMb / 1024 <= gib);
  return parts.find(({ memoryGib }) => fits(memoryGib))?.name ?? '';
}
