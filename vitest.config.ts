import { defineConfig } from 'vitest/config';

/** The half that does no I/O: its tests leave nothing behind, so that modules are loaded once for many files. */
const pure = ['core', 'demand', 'optimizer', 'placement', 'simulation', 'profiling', 'docs'].map(
  (folder) => `test/${folder}/**/*.test.ts`,
);

/** Measures servers in real time: beside other tests it would measure those. */
const alone = ['test/samples/profiling.test.ts'];

const common = {
  setupFiles: ['test/support/property-seed.ts'],
  testTimeout: 60_000,
  hookTimeout: 60_000,
};

export default defineConfig({
  test: {
    globalSetup: ['test/support/build-once.ts'],
    // One fewer, the default, is one on a small CI machine, which then waits for most of its time.
    maxWorkers: '100%',
    projects: [
      { test: { ...common, name: 'pure', include: pure, isolate: false } },
      { test: { ...common, name: 'all else', include: ['test/**/*.test.ts'], exclude: [...pure, ...alone] } },
      { test: { ...common, name: 'alone', include: alone, sequence: { groupOrder: 1 } } },
    ],
  },
});
