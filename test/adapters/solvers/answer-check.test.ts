import { describe, expect, test } from 'vitest';
import { checkProposal, type Proposal, type SecondLook } from '../../../src/adapters/solvers/answer-check.js';
import type { Program } from '../../../src/optimizer/program.js';
import { type SeededRandom, seededRandom } from '../../support/seeded-random.js';
import { objectiveInWords } from './joint-programs.js';

const noLook: SecondLook = { findShares: () => null, stretch: () => null };
const check = (program: Program, proposal: Proposal, secondLook = noLook) =>
  checkProposal(program, proposal, { secondLook, relativeGap: 0, milliseconds: 0 });

type Answer = { replicas: Float64Array; shares: Float64Array; unserved: Float64Array; bound: number };

/** A program made around an answer, so that the answer fills every deployment and every limit exactly. */
function knifeEdge(random: SeededRandom): { program: Program; answer: Answer } {
  const bucketCount = random.whole(2, 4);
  const deploymentCount = random.whole(2, 4);
  const replicas = Float64Array.from({ length: deploymentCount }, () => random.whole(1, 5));
  const shares = new Float64Array(bucketCount * deploymentCount);
  const unserved = new Float64Array(bucketCount);
  const work = new Float64Array(bucketCount * deploymentCount);
  const filled = new Float64Array(deploymentCount);
  for (let b = 0; b < bucketCount; b++) {
    const parts = Array.from({ length: deploymentCount + 1 }, () => random.between(0.1, 1));
    const total = parts.reduce((sum, part) => sum + part, 0);
    unserved[b] = parts[deploymentCount]! / total;
    for (let d = 0; d < deploymentCount; d++) {
      const at = b * deploymentCount + d;
      shares[at] = parts[d]! / total;
      work[at] = random.between(0.5, 2);
      filled[d] = filled[d]! + shares[at]! * work[at]!;
    }
  }
  const perBucket = (low: number, high: number) =>
    Float64Array.from({ length: bucketCount }, () => random.between(low, high));
  const perDeployment = (low: number, high: number) =>
    Float64Array.from({ length: deploymentCount }, () => random.between(low, high));
  const product = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const rate = perBucket(0.5, 2);
  const weight = perBucket(0.5, 2);
  const use = perDeployment(1, 4);
  const program: Program = {
    bucketCount,
    deploymentCount,
    work,
    rate,
    cost: perDeployment(1, 4),
    capacity: filled.map((load, d) => load / replicas[d]!),
    lower: replicas.map((count) => count - 1),
    upper: replicas.map((count) => count + 1),
    unservedLimit: random.chance(0.5) ? product(rate, unserved) : Number.POSITIVE_INFINITY,
    unservedPrice: perBucket(1, 1000),
    unservedLimits: [{ weight, limit: product(weight, unserved) }],
    switching: {
      current: replicas.map((count) => (random.chance(0.2) ? Number.NaN : count + random.whole(-1, 1))),
      start: perDeployment(0, 1),
      stop: perDeployment(0, 1),
    },
    sharedLimits: [{ use, limit: product(use, replicas) }],
  };
  return { program, answer: { replicas, shares, unserved, bound: objectiveInWords(program, replicas, unserved) } };
}

/** Ways to spoil such an answer. Each breaks a rule of the program; each changes what it is given. */
const tampering: Record<string, (answer: Answer, at: { b: number; d: number }, program: Program) => void> = {
  'one replica more than a shared limit holds': ({ replicas }, { d }) => {
    replicas[d]! += 1;
  },
  'one replica too few for its shares': ({ replicas }, { d }) => {
    replicas[d]! -= 1;
  },
  'half a replica': ({ replicas }, { d }) => {
    replicas[d]! += 0.5;
  },
  'replicas below the floor': ({ replicas }, { d }) => {
    replicas[d]! -= 2;
  },
  'replicas above the ceiling': ({ replicas }, { d }) => {
    replicas[d]! += 2;
  },
  'replicas that are no number': ({ replicas }, { d }) => {
    replicas[d] = Number.NaN;
  },
  'a share moved to a full deployment': ({ shares }, { b, d }, { deploymentCount }) => {
    const row = b * deploymentCount;
    const moved = shares[row + d]! / 50;
    shares[row + d]! -= moved;
    shares[row + ((d + 1) % deploymentCount)]! += moved;
  },
  'a share that stays where no deployment is': ({ shares }, { b, d }, { deploymentCount }) => {
    shares[b * deploymentCount + d] = 0;
  },
  'a share that is no number': ({ shares }, { b, d }, { deploymentCount }) => {
    shares[b * deploymentCount + d] = Number.NaN;
  },
  'more unserved than a limit allows': ({ shares, unserved }, { b, d }, { deploymentCount }) => {
    const moved = shares[b * deploymentCount + d]! / 50;
    shares[b * deploymentCount + d]! -= moved;
    unserved[b]! += moved;
  },
  'less unserved than the deployments have room for': ({ shares, unserved }, { b, d }, { deploymentCount }) => {
    shares[b * deploymentCount + d]! += unserved[b]! / 50;
    unserved[b]! -= unserved[b]! / 50;
  },
  'an unserved share that is no number': ({ unserved }, { b }) => {
    unserved[b] = Number.NaN;
  },
};

describe('the check of an answer', () => {
  const instances = Array.from({ length: 60 }, (_, seed) => ({ seed, ...knifeEdge(seededRandom(seed + 1)) }));

  test('keeps answers that fill every deployment and every limit exactly, at their whole cost', () => {
    for (const { program, answer } of instances) {
      const kept = check(program, { claim: 'optimal', ...answer, nodes: 3 });
      expect(kept).toMatchObject({ status: 'optimal', detail: 'proved', replicas: answer.replicas, nodes: 3 });
      expect(kept.bound).toBeCloseTo(answer.bound, 9);
      kept.unserved!.forEach((share, b) => {
        expect(share).toBeCloseTo(answer.unserved[b]!, 12);
      });
    }
  });

  test.each(Object.keys(tampering))('refuses %s', (name) => {
    for (const { seed, program, answer } of instances) {
      for (let b = 0; b < program.bucketCount; b++) {
        for (let d = 0; d < program.deploymentCount; d++) {
          const spoilt = structuredClone(answer);
          tampering[name]!(spoilt, { b, d }, program);
          const refused = check(program, { claim: 'optimal', ...spoilt, nodes: 0 });
          expect({ seed, b, d, ...refused }).toMatchObject({ status: 'unknown', replicas: null, detail: 'rejected' });
        }
      }
    }
  });

  test('refuses to leave unserved what must be served, whatever other limits allow', () => {
    for (const { program, answer } of instances) {
      const all = { claim: 'optimal', ...answer, nodes: 0 } as const;
      const weight = new Float64Array(program.bucketCount);
      weight[0] = 1;
      const limits = [...program.unservedLimits!, { weight, limit: 0 }];
      expect(check({ ...program, unservedLimits: limits }, all)).toMatchObject({ detail: 'rejected' });
      expect(check({ ...program, unservedLimit: 0 }, all)).toMatchObject({ detail: 'rejected' });
    }
  });

  test('calls an answer optimal only where the bound reaches what it really costs', () => {
    for (const { program, answer } of instances) {
      const claimed = { claim: 'optimal', ...answer, nodes: 0 } as const;
      expect(check(program, { ...claimed, bound: answer.bound * 0.999 })).toMatchObject({
        status: 'feasible',
        detail: 'unproved',
      });
      const within = { secondLook: noLook, relativeGap: 0.01, milliseconds: 0 };
      expect(checkProposal(program, { ...claimed, bound: answer.bound * 0.999 }, within)).toMatchObject({
        status: 'optimal',
      });
      expect(check(program, { ...claimed, bound: answer.bound * 2 }).bound).toBeLessThanOrEqual(
        answer.bound * (1 + 1e-12),
      );
    }
  });

  describe('that claims that there is none', () => {
    const { program } = instances[0]!;
    const claim: Proposal = { claim: 'infeasible', replicas: null, shares: null, unserved: null, bound: 0, nodes: 0 };
    const some = () => ({
      shares: new Float64Array(program.work.length),
      unserved: new Float64Array(program.bucketCount),
    });
    const look = (findShares: SecondLook['findShares'], stretch: SecondLook['stretch'] = () => null) => ({
      findShares,
      stretch,
    });

    test('believes it where floors alone are above a shared limit', () => {
      const use = new Float64Array(program.deploymentCount).fill(1);
      const floors = { ...program, lower: program.upper, sharedLimits: [{ use, limit: 1 }] };
      expect(check(floors, claim)).toMatchObject({ status: 'infeasible', detail: 'proved' });
    });

    test('believes it where no shares fit even at the ceilings', () => {
      expect(
        check(
          program,
          claim,
          look(() => 'none'),
        ),
      ).toMatchObject({ status: 'infeasible' });
    });

    test('refutes it where shares fit at the ceilings, and the ceilings keep every limit', () => {
      expect(check({ ...program, sharedLimits: [] }, claim, look(some))).toMatchObject({ detail: 'rejected' });
    });

    test('asks by how much limits must be stretched where the ceilings do not keep them', () => {
      const asked = (stretch: ReturnType<SecondLook['stretch']>) =>
        check(
          program,
          claim,
          look(some, () => stretch),
        );
      expect(asked({ atLeast: 0.25, atMost: 0.25 })).toMatchObject({ status: 'infeasible', detail: 'proved' });
      expect(asked({ atLeast: 0, atMost: 0 })).toMatchObject({ status: 'unknown', detail: 'rejected' });
      expect(asked({ atLeast: 0, atMost: 0.25 })).toMatchObject({ status: 'unknown', detail: 'claimed-infeasible' });
      expect(asked(null)).toMatchObject({ status: 'unknown', detail: 'claimed-infeasible' });
    });
  });
});
