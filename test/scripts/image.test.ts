import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { shippedCatalogueFile, shippedModelsFile } from '../../src/adapters/catalogue-file.js';
import { quickstartFile } from '../../src/service/choose-config.js';

/** No image can be built in a test: what its recipe says is held against what the tree has and the service reads. */

const root = fileURLToPath(new URL('../../', import.meta.url));
const lines = readFileSync(join(root, 'Dockerfile'), 'utf8').split('\n');
const finalStage = lines.slice(lines.findLastIndex((line) => line.startsWith('FROM ')));
const copied = (stage: readonly string[]) =>
  stage
    .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
    .flatMap((line) => line.split(/\s+/).slice(1, -1));

describe('the image', () => {
  it('is made of files that are there, and that .dockerignore lets through', () => {
    const ignore = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n');
    const allowed = ignore.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
    expect(ignore).toContain('*');
    for (const path of copied(lines)) {
      expect(existsSync(join(root, path))).toBe(true);
      expect(allowed).toContain(path);
    }
  });

  it('holds what the service reads beside its code', () => {
    const kept = [...copied(finalStage), 'dist', 'node_modules'];
    for (const file of [quickstartFile, shippedCatalogueFile, shippedModelsFile, join(root, 'package.json')]) {
      const path = file.slice(root.length);
      expect(kept.some((one) => path === one || path.startsWith(`${one}/`))).toBe(true);
    }
  });

  it('runs Node.js itself as process 1, as a user that Kubernetes can see is not root', () => {
    expect(finalStage).toContain('USER 65532:65532');
    expect(finalStage).toContain('ENTRYPOINT ["/nodejs/bin/node", "/app/dist/cli/main.js"]');
    expect(finalStage).toContain('CMD ["serve"]');
  });
});
