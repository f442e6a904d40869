import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Dashboard, defaultDashboard, type Panel, type RowPanel } from '@grafana/schema';
import { describe, expect, it } from 'vitest';
import { dashboards } from '../../scripts/dashboards/index.js';
import { type DashboardSpec, dashboardOf } from '../../scripts/dashboards/panels.js';

/**
 * The dashboards of the chart are written by scripts/dashboards, and so is the list of their questions in
 * docs/grafana.md. `UPDATE_DASHBOARDS=1 npx vitest run test/charts/dashboards` writes both anew.
 */
const root = fileURLToPath(new URL('../../', import.meta.url));
const folder = join(root, 'charts/gpumix/dashboards');
const page = join(root, 'docs/grafana.md');
const isUpdate = process.env.UPDATE_DASHBOARDS === '1';

const textOf = (spec: DashboardSpec): string => `${JSON.stringify(dashboardOf(spec), null, 2)}\n`;

function questions(): string {
  return Object.values<DashboardSpec>(dashboards)
    .map(({ title, description, rows }) => {
      const lines = rows.flatMap(({ panels }) => panels.map((panel) => `| ${panel.title} | ${panel.question} |`));
      return [`### ${title}`, '', description, '', '| panel | answers |', '|---|---|', ...lines].join('\n');
    })
    .join('\n\n');
}

const [begin, end] = ['<!-- written by test/charts/dashboards.test.ts -->', '<!-- end -->'];

if (isUpdate) {
  for (const [name, spec] of Object.entries(dashboards)) writeFileSync(join(folder, `${name}.json`), textOf(spec));
  const text = readFileSync(page, 'utf8');
  const [before, after] = [text.split(begin)[0]!, text.split(end)[1]!];
  writeFileSync(page, `${before}${begin}\n\n${questions()}\n\n${end}${after}`);
}

const written = Object.keys(dashboards).map((name) => {
  const file = join(folder, `${name}.json`);
  return [name, (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}) as Dashboard] as const;
});

const isRow = (panel: Panel | RowPanel): panel is RowPanel => panel.type === 'row';
type Target = { readonly refId: string; readonly expr: string; readonly datasource: unknown };
const panelsOf = (dashboard: Dashboard): readonly Panel[] =>
  (dashboard.panels ?? []).filter((panel): panel is Panel => !isRow(panel));

describe('the dashboards of the chart', () => {
  it('are what scripts/dashboards writes, and there is no other', () => {
    expect(readdirSync(folder).sort()).toEqual(
      Object.keys(dashboards)
        .map((name) => `${name}.json`)
        .sort(),
    );
    for (const [name, spec] of Object.entries(dashboards)) {
      // By value: the formatter of the repository lays out the text.
      expect(JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')), name).toEqual(JSON.parse(textOf(spec)));
    }
  });

  it('have the question of every panel in docs/grafana.md', () => {
    expect(readFileSync(page, 'utf8').split(begin)[1]?.split(end)[0]?.trim()).toBe(questions());
  });

  it.each(written)('%s: fills 24 columns without overlaps, holes between rows, or a panel outside', (_, dashboard) => {
    const taken = new Map<string, string>();
    for (const { title, gridPos } of dashboard.panels ?? []) {
      const { x, y, w, h } = gridPos!;
      expect(
        [x, y, w, h].every((number) => Number.isInteger(number) && number >= 0),
        title,
      ).toBe(true);
      expect(x + w, title).toBeLessThanOrEqual(24);
      for (let row = y; row < y + h; row += 1) {
        for (let column = x; column < x + w; column += 1) {
          const cell = `${row}/${column}`;
          expect(taken.get(cell), `${title} at ${cell}`).toBeUndefined();
          taken.set(cell, title!);
        }
      }
    }
    const height = Math.max(...(dashboard.panels ?? []).map(({ gridPos }) => gridPos!.y + gridPos!.h));
    expect(taken.size).toBe(height * 24);
  });

  it.each(written)(
    '%s: every panel has an id of its own, a question, a unit and the chosen data source',
    (_, dashboard) => {
      const chosen = { type: 'prometheus', uid: '$datasource' };
      const ids = (dashboard.panels ?? []).map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      const titles = panelsOf(dashboard).map(({ title }) => title);
      expect(new Set(titles).size).toBe(titles.length);
      for (const panel of panelsOf(dashboard)) {
        expect(panel.description, panel.title).toMatch(/^[^\n]+\?\n\n[^\n]+$/);
        expect(panel.fieldConfig?.defaults.unit, panel.title).toMatch(
          /^(currencyUSD|reqps|s|percentunit|bytes|short|none)$/,
        );
        expect(panel.datasource, panel.title).toEqual(chosen);
        const targets = panel.targets as unknown as readonly Target[];
        expect(targets.length, panel.title).toBeGreaterThan(0);
        for (const target of targets) expect(target.datasource, panel.title).toEqual(chosen);
        // Grafana takes steps as sorted, the first of them from minus infinity.
        const steps = panel.fieldConfig!.defaults.thresholds!.steps.map(({ value }) => value);
        expect(steps[0], panel.title).toBeNull();
        expect(steps.slice(1), panel.title).toEqual((steps.slice(1) as number[]).toSorted((a, b) => a - b));
      }
    },
  );

  it.each(written)('%s: names no data source, no instance and no refresh that a set-up must have', (_, dashboard) => {
    expect(dashboard.schemaVersion).toBe(defaultDashboard.schemaVersion);
    expect(dashboard.id).toBeNull();
    expect(dashboard.refresh).toMatch(/^\d+[sm]$/);
    const { list = [] } = dashboard.templating ?? {};
    const uids = [...JSON.stringify(dashboard).matchAll(/"type":"prometheus","uid":"([^"]+)"/g)].map(([, uid]) => uid);
    expect(new Set(uids)).toEqual(new Set(['$datasource']));
    expect(list.map(({ name }) => name).slice(0, 2)).toEqual(['datasource', 'job']);
    for (const { name, includeAll, allValue, multi } of list.slice(2)) {
      expect([name, includeAll, allValue, multi]).toEqual([name, true, '.*', true]);
    }
  });

  it.each(written)('%s: uses each of its variables, and has all that it uses', (_, dashboard) => {
    const texts = panelsOf(dashboard).flatMap(({ targets }) =>
      (targets as unknown as Target[]).map(({ expr }) => expr),
    );
    const used = new Set(texts.join(' ').match(/\$(?!__)\w+/g));
    const { list = [] } = dashboard.templating ?? {};
    expect([...used].sort()).toEqual(
      list
        .map(({ name }) => `$${name}`)
        .filter((name) => name !== '$datasource')
        .sort(),
    );
  });

  it('have identifiers of their own', () => {
    const uids = written.map(([, { uid }]) => uid);
    expect(new Set(uids).size).toBe(4);
    for (const uid of uids) expect(uid).toMatch(/^gpumix-[a-z]+$/);
  });
});
