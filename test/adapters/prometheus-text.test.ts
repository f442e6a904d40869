import fc from 'fast-check';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { parseMetricSamples } from '../../src/adapters/prometheus-text.js';
import { InputError } from '../../src/core/input-error.js';

const source = 'metrics of a test';
const parse = (text: string) => parseMetricSamples(text, { source });

describe('the text format of metrics', () => {
  it('is read as vLLM writes it', () => {
    const text = [
      '# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.',
      '# TYPE vllm:time_to_first_token_seconds histogram',
      'vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="meta-llama/Llama-3.1-8B"} 3.0',
      'vllm:time_to_first_token_seconds_sum{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.4375',
      '',
      'python_gc_objects_collected_total{generation="0"} 1.0219e+04',
    ].join('\n');
    const labels = { engine: '0', model_name: 'meta-llama/Llama-3.1-8B' };
    expect(parse(text)).toEqual([
      { name: 'vllm:time_to_first_token_seconds_bucket', labels: { ...labels, le: '+Inf' }, value: 3 },
      { name: 'vllm:time_to_first_token_seconds_sum', labels, value: 0.4375 },
      { name: 'python_gc_objects_collected_total', labels: { generation: '0' }, value: 10219 },
    ]);
  });

  it.each([
    ['a 1', 1],
    ['a +Inf', Number.POSITIVE_INFINITY],
    ['a -Inf', Number.NEGATIVE_INFINITY],
    ['a NaN', Number.NaN],
    ['a -1.5e-3', -0.0015],
    ['a .5', 0.5],
    ['a{} 2', 2],
    ['a { x = "1" , } 3', 3],
    ['\ta\t4\t1700000000000  ', 4],
    ['{"a",x="1"} 5', 5],
  ])('takes %j as %d', (line, value) => {
    expect(parse(line).map((sample) => [sample.name, sample.value])).toEqual([['a', value]]);
  });

  it('gives every label back whatever it holds, and every number, as prom-client writes them', async () => {
    const text = fc.string({ maxLength: 20, unit: 'binary' });
    const number = fc.oneof(fc.double(), fc.integer());
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(text, number), { maxLength: 20 }), async (entries) => {
        const registry = new Registry();
        const gauge = new Gauge({ name: 'g:auge', help: 'One\nhelp', labelNames: ['x'], registers: [registry] });
        const expected = new Map<string, number>();
        for (const [x, value] of entries) {
          gauge.set({ x }, value);
          expected.set(x, value);
        }
        if (expected.size === 0) return;
        const found = new Map(parse(await registry.metrics()).map(({ labels, value }) => [labels.x, value]));
        expect(found).toEqual(new Map([...expected].map(([x, value]) => [x, value === 0 ? found.get(x)! : value])));
      }),
    );
  });

  it('gives the sums and counts of a histogram, and its counters', async () => {
    const registry = new Registry();
    const histogram = new Histogram({ name: 'h', help: 'h', buckets: [1, 2], registers: [registry] });
    for (const value of [0.5, 1.5, 9]) histogram.observe(value);
    new Counter({ name: 'c_total', help: 'c', registers: [registry] }).inc(7);
    const samples = new Map(parse(await registry.metrics()).map(({ name, value }) => [name, value]));
    expect([samples.get('h_sum'), samples.get('h_count'), samples.get('c_total')]).toEqual([11, 3, 7]);
  });

  it.each([
    ['no value', 'a', 'a number'],
    ['a word as value', 'a one', 'a number'],
    ['a hexadecimal number', 'a 0x1', 'a number'],
    ['an open brace', 'a{x="1" 1', 'a comma or }'],
    ['an open quote', 'a{x="1} 1', 'double quotes'],
    ['a label without quotes', 'a{x=1} 1', 'double quotes'],
    ['a label without value', 'a{x} 1', 'name="value"'],
    ['no name', '{x="1"} 1', 'the name of a metric'],
    ['a name that begins with a digit', '1a 1', 'the name of a metric'],
    ['two quoted names', '{"a","b"} 1', 'name="value"'],
    ['something after the number', 'a 1 2 3', 'nothing after the number'],
    ['a time that is none', 'a 1 noon', 'nothing after the number'],
    ['a page of a website', '<html><body>404</body></html>', 'the name of a metric'],
  ])('refuses %s, and says in which line', (_, line, expected) => {
    const broken = () => parse(`ok 1\n${line}\nok 2`);
    expect(broken).toThrow(InputError);
    expect(broken).toThrow(/metrics of a test: line 2: found /);
    expect(broken).toThrow(expected);
  });

  it('checks also the lines that nobody wants', () => {
    const wanted = (name: string) => name === 'a';
    expect(parseMetricSamples('a 1\nb 2', { source, wanted })).toHaveLength(1);
    expect(() => parseMetricSamples('a 1\nb', { source, wanted })).toThrow(InputError);
  });

  it('ends on any text, with samples or with a fault of it', () => {
    const piece = fc.oneof(
      fc.string({ maxLength: 8 }),
      fc.constantFrom('a', '{', '}', '"', '\\', '=', ',', ' ', '\n', '1', '#', 'NaN', 'x="y"', '\r'),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        try {
          for (const { name, value } of parse(pieces.join(''))) {
            expect(typeof value).toBe('number');
            expect(name).not.toBe('');
          }
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
