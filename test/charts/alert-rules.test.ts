import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { prometheusMissing } from '../support/prometheus-server.js';

/** The alert rules of the chart: their form here, what they do by promtool's own unit tests (alert-rules.yaml). */
if (prometheusMissing !== null) console.log(`alert-rules: ${prometheusMissing}`);

const root = fileURLToPath(new URL('../../', import.meta.url));
const rulesFile = `${root}charts/gpumix/rules/gpumix.yaml`;
const testsFile = `${root}test/charts/alert-rules.yaml`;

type Rule = {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
};
type Case = {
  readonly alert_rule_test: readonly { readonly alertname: string; readonly exp_alerts: readonly unknown[] }[];
};

const { groups } = parse(readFileSync(rulesFile, 'utf8')) as { groups: readonly { readonly rules: readonly Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);
const { tests } = parse(readFileSync(testsFile, 'utf8')) as { tests: readonly Case[] };
const cases = tests.flatMap((each) => each.alert_rule_test);

describe('the alert rules', () => {
  it('have names of their own', () => {
    expect(rules.length).toBeGreaterThan(10);
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  });

  it.each(rules)('$alert waits, has a severity, and says what is the matter and where to read on', (rule) => {
    expect(rule.for).toMatch(/^\d+m$/);
    expect(['critical', 'warning', 'info']).toContain(rule.labels.severity);
    expect(rule.annotations.summary).toMatch(/^[A-Za-z].+\.$/);
    expect(rule.annotations.description).toMatch(/\.$/);
    expect(rule.annotations.runbook).toBe(`docs/alerts.md#${rule.alert.toLowerCase()}`);
  });

  it('have a section each in docs/alerts.md, with what it means, what to look at and how to mend it', () => {
    const sections = readFileSync(`${root}docs/alerts.md`, 'utf8').split('\n## ').slice(1);
    expect(sections.map((section) => section.split('\n')[0])).toEqual(rules.map(({ alert }) => alert));
    for (const section of sections) expect(section).toMatch(/\*\*Means\*\*[\s\S]+\*\*Look at\*\*[\s\S]+\*\*Mend\*\*/);
  });

  it.each(rules)('$alert is tested where it fires, and where it must not', ({ alert }) => {
    const own = cases.filter(({ alertname }) => alertname === alert);
    expect(own.some(({ exp_alerts }) => exp_alerts.length > 0)).toBe(true);
    expect(own.some(({ exp_alerts }) => exp_alerts.length === 0)).toBe(true);
  });

  it.skipIf(prometheusMissing !== null).each([
    ['check', ['check', 'rules', rulesFile]],
    ['unit tests', ['test', 'rules', testsFile]],
  ])('pass promtool: %s', (_, args) => {
    const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8', timeout: 60_000 });
    expect(status, `${stdout}${stderr}`).toBe(0);
  });
});
