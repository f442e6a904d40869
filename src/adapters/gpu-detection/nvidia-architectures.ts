/**
 * NVIDIA's architectures by compute capability, named as the catalogue names them.
 *
 * Source: NVIDIA, "CUDA GPU Compute Capability" and the tables of the CUDA C++ Programming Guide.
 */
const architectureByCapability: Readonly<Record<string, string>> = {
  '3.0': 'kepler',
  '3.5': 'kepler',
  '3.7': 'kepler',
  '5.0': 'maxwell',
  '5.2': 'maxwell',
  // Jetson TX1 and Nano
  '5.3': 'maxwell',
  '6.0': 'pascal',
  '6.1': 'pascal',
  // Jetson TX2
  '6.2': 'pascal',
  '7.0': 'volta',
  // Jetson Xavier
  '7.2': 'volta',
  '7.5': 'turing',
  '8.0': 'ampere',
  '8.6': 'ampere',
  // Jetson Orin
  '8.7': 'ampere',
  '8.9': 'ada',
  '9.0': 'hopper',
  '10.0': 'blackwell',
  // Thor before CUDA 13, which calls it 11.0
  '10.1': 'blackwell',
  '10.3': 'blackwell',
  '11.0': 'blackwell',
  '12.0': 'blackwell',
  // GB10
  '12.1': 'blackwell',
};

/** The architecture of `8.6`; null where it is not known. */
export function nvidiaArchitecture(capability: string): string | null {
  const text = capability.trim();
  return Object.hasOwn(architectureByCapability, text) ? architectureByCapability[text]! : null;
}
