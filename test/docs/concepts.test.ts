import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { refusalReasons } from '../../src/core/placement.js';
import { sharingModeNames, strategyNames } from '../../src/core/placement-request.js';
import { forecasterNames } from '../../src/demand/forecast.js';
import { holdRules } from '../../src/service/replica-holds.js';
import { heldReasons } from '../../src/service/view.js';
import { fidelities, routers } from '../../src/simulation/backtest/backtest.js';

/** Words that a user reads in answers, metrics and flags, against the page that says what they mean. */
const page = readFileSync(fileURLToPath(new URL('../../docs/concepts.md', import.meta.url)), 'utf8');

function section(title: string): string {
  return page.split('\n## ').find((text) => text.startsWith(`${title}\n`)) ?? '';
}

/** What the first column of a section's table has in code. */
function firstColumn(title: string): readonly string[] {
  const cells = [...section(title).matchAll(/^\| (`[^|]*`) \|/gm)].map(([, cell]) => cell!);
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, word]) => word!));
}

describe('docs/concepts.md', () => {
  it('has every reason for which a plan is held, once, and no other', () => {
    expect([...firstColumn('Holding')].sort()).toEqual([...heldReasons].sort());
  });

  it('has every rule by which a number is held up, once, and no other', () => {
    expect([...firstColumn('Stability')].sort()).toEqual([...holdRules].sort());
  });

  it('names every forecaster, router and fidelity, and the words of placements', () => {
    const named = (title: string, words: readonly string[]) =>
      words.filter((word) => !section(title).includes(`\`${word}\``));
    expect(named('Demand and forecast', forecasterNames)).toEqual([]);
    expect(named('Backtests', [...routers, ...fidelities])).toEqual([]);
    expect(named('Placements', [...strategyNames, ...sharingModeNames, ...refusalReasons])).toEqual([]);
  });
});
