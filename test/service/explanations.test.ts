import { describe, expect, it } from 'vitest';
import type { Explanation } from '../../src/core/explanation.js';
import { explain } from '../../src/optimizer/explain.js';
import { type Explainer, Explanations } from '../../src/service/explanations.js';
import { deployment, profileText, World } from '../support/controller-world.js';
import { modelView, problemOf } from '../support/scripted-view.js';

/** An explainer whose answers wait until a test lets them go. */
function waitingExplainer() {
  const asked: (string | null)[] = [];
  const waiting: { readonly finish: () => void; readonly fail: (error: Error) => void }[] = [];
  const explainer: Explainer = {
    explain: (problem, { model }) =>
      new Promise((resolve, reject) => {
        asked.push(model);
        waiting.push({ finish: () => resolve(explain(problem, model === null ? {} : { model })), fail: reject });
      }),
  };
  return { explainer, asked, waiting };
}

const names = ['a', 'b', 'c'];
const views = names.map((name) => modelView({ name, deployments: [] }));

describe('explanations in the service', () => {
  it('are made once for each plan, whoever asks and however often', async () => {
    const { explainer, asked, waiting } = waitingExplainer();
    const explanations = new Explanations(explainer);
    const problem = problemOf(views);
    const answers = [explanations.of(problem, null), explanations.of(problem, null)];
    waiting[0]!.finish();
    const [first, second] = await Promise.all(answers);
    expect(first).toBe(second);
    expect(await explanations.of(problem, null)).toBe(first);
    expect(asked).toEqual([null]);
    const other = explanations.of(problem, 'a');
    waiting[1]!.finish();
    expect(((await other) as Explanation).model).toBe('a');
    // The next plan is another one.
    void explanations.of(problemOf(views), null);
    expect(asked).toEqual([null, 'a', null]);
  });

  it('are not made more than two at a time', async () => {
    const { explainer, waiting } = waitingExplainer();
    const explanations = new Explanations(explainer);
    const problem = problemOf(views);
    const [a, b] = [explanations.of(problem, 'a'), explanations.of(problem, 'b')];
    expect(await explanations.of(problem, 'c')).toBe('busy');
    for (const { finish } of waiting) finish();
    await Promise.all([a, b]);
    const c = explanations.of(problem, 'c');
    waiting[2]!.finish();
    expect(await c).not.toBe('busy');
  });

  it('that failed are made anew', async () => {
    const { explainer, waiting } = waitingExplainer();
    const explanations = new Explanations(explainer);
    const problem = problemOf(views);
    const failed = explanations.of(problem, null);
    waiting[0]!.fail(new Error('the thread died'));
    await expect(failed).rejects.toThrow('the thread died');
    const again = explanations.of(problem, null);
    waiting[1]!.finish();
    expect(await again).toMatchObject({ kind: 'Explanation' });
  });

  it('are of the problem in force: another demand, another explanation', async () => {
    const a100 = deployment({ name: 'a100', usdPerReplicaHour: 3 });
    const world = await new World({ deployments: [a100], profiles: { a100: profileText({ rps: 1 }) } }).start();
    const explained = async (): Promise<Explanation> =>
      (await world.controller.explain(world.controller.problem()!, 'llama')) as Explanation;
    await world.send('llama', { rps: 10 }).cycle();
    const first = await explained();
    expect(first.sentences[0]).toBe('The plan costs 30.00 USD/h: no plan that serves this demand is cheaper (proven).');
    expect(first.usdPerHour).toBe(world.controller.plan()!.usdPerHour);
    expect(await explained()).toBe(first);
    await world.send('llama', { rps: 20 }).cycles(30);
    expect((await explained()).usdPerHour).toBe(60);
  });
});
