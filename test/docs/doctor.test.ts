import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { describeFindings } from '../../src/service/doctor/findings.js';

/** docs/doctor.md against the table of findings: `UPDATE_DOCS=1 npx vitest run test/docs/doctor` writes that part anew. */

const file = fileURLToPath(new URL('../../docs/doctor.md', import.meta.url));
const begin = '<!-- findings: made of src/service/doctor/findings.ts -->\n';

it('docs/doctor.md explains every finding as the command does', () => {
  const [head, findings] = readFileSync(file, 'utf8').split(begin);
  if (process.env.UPDATE_DOCS === '1') writeFileSync(file, `${head}${begin}\n${describeFindings()}`);
  else expect(findings).toBe(`\n${describeFindings()}`);
});
