import { describe, expect, it } from 'vitest';
import { exporters, exportNames } from '../../../src/placement/export/exporters.js';
import { accelerators, gpuLess, homelab, partitioned, workstation } from '../../support/exported-placements.js';

describe.each(exportNames)('the export %s', (name) => {
  const exporter = exporters[name];

  it('says what it is for in half a line', () => {
    expect(exporter.about).toMatch(/^[^\n]{10,100}[^.\n]$/);
    expect(exporter.fileName).toMatch(/^[a-z0-9.-]+$/);
  });

  it.each(Object.entries({ workstation, homelab, partitioned, accelerators, gpuLess }))(
    'writes whole files with names of their own, the same every time: %s',
    (_, input) => {
      const { files, notices } = exporter.write(input);
      const names = files.map(({ fileName }) => fileName);
      expect(names.length).toBeGreaterThan(0);
      expect(new Set(names).size).toBe(names.length);
      for (const { fileName, text } of files) {
        expect(fileName).toMatch(/^[A-Za-z0-9._-]+$/);
        expect(text).toMatch(/[^\n]\n$/);
        expect(text).toContain('gpumix');
      }
      for (const notice of notices) expect(notice).toMatch(/^[^\n]+\.$/);
      expect(exporter.write(structuredClone(input))).toEqual({ files, notices });
    },
  );

  it('never leaves a refused service out in silence', () => {
    const { files } = exporter.write(homelab);
    for (const { text } of files) expect(text).toContain('mindie');
  });
});
