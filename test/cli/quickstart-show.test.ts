import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { QuickstartShow } from '../../src/cli/quickstart-show.js';
import { deploymentView, modelView, planOf, scriptedController } from '../support/scripted-view.js';

const facts = {
  title: 'chat',
  url: 'http://127.0.0.1:8080',
  metricPath: '/metrics/default/llama-a100',
  objective: null,
};

class Output extends EventEmitter {
  text = '';
  isTTY = false;
  columns = 80;
  rows = 24;
  write(text: string): boolean {
    this.text += text;
    return true;
  }
}

function show(isTTY: boolean) {
  const controller = scriptedController();
  const output = Object.assign(new Output(), { isTTY });
  const started = new QuickstartShow({ view: controller.view, output, color: false });
  const cycle = (minute: number, replicas: number) => {
    controller.state.models = [modelView({ deployments: [deploymentView({ replicas, targetReplicas: replicas })] })];
    controller.state.plan = planOf(controller.state.models);
    controller.endCycle({ at: Date.UTC(2026, 10, 20, 10, minute) });
  };
  return { output, started, cycle };
}

describe('the quickstart on a pipe', () => {
  it('prints one line for each change of the plan, and none while only the load changes', () => {
    const { output, started, cycle } = show(false);
    cycle(0, 1);
    expect(output.text).toBe('');
    started.start(facts);
    cycle(1, 1);
    cycle(2, 3);
    cycle(3, 3);
    started.log('a warning\n');
    started.stop();
    cycle(4, 5);
    expect(output.text.split('\n').map((line) => line.slice(0, 11))).toEqual([
      '11-20 10:00',
      '11-20 10:02',
      'a warning',
      '',
    ]);
    expect(output.text).not.toContain('\x1b');
  });
});

describe('the quickstart on a terminal', () => {
  it('that does not know its own size is drawn as on one of 80 by 24', () => {
    const { output, started, cycle } = show(true);
    Object.assign(output, { columns: 0, rows: 0 });
    started.start(facts);
    cycle(0, 2);
    expect(output.text).toContain('curl http://127.0.0.1:8080/metrics/default/llama-a100');
    expect(output.text).toContain('11-20 10:00');
  });

  it('redraws the table each cycle and keeps a line for each change of the plan', () => {
    const { output, started, cycle } = show(true);
    started.start(facts);
    cycle(0, 1);
    cycle(1, 1);
    output.text = '';
    cycle(2, 3);
    const rows = output.text.match(/11-20 10:\d\d/g);
    expect(rows).toEqual(['11-20 10:01', '11-20 10:02']);
    expect(output.text).toContain('curl http://127.0.0.1:8080/metrics/default/llama-a100');
  });

  it('draws anew after a change of size, to the new width', () => {
    const { output, started, cycle } = show(true);
    started.start(facts);
    cycle(0, 1);
    output.text = '';
    output.columns = 30;
    output.emit('resize');
    expect(output.text.startsWith('\x1b[2J\x1b[H')).toBe(true);
    for (const line of output.text
      .replaceAll('\x1b', '␛')
      .replace(/␛\[\??\d*[A-Za-z]/g, '')
      .split('\n')) {
      expect(line.length).toBeLessThanOrEqual(30);
    }
    started.stop();
    expect(output.listenerCount('resize')).toBe(0);
  });
});
