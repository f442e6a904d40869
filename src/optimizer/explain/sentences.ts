import type {
  DemandChange,
  ExplainedLimit,
  ExplainedModel,
  Explanation,
  PlanChange,
  RunnerUp,
  UnusedDeployment,
} from '../../core/explanation.js';
import { amount, counted, percent, replicas as replicasInWords } from '../reason.js';

/** An explanation without its sentences, which are made from it. */
export type ExplainedFacts = Omit<Explanation, 'sentences'>;

/** What an explanation says in plain words, by what it is about. */
export type ExplanationSentences = {
  readonly headline: readonly string[];
  /** Of all models: those that matter most first, those that change nothing last. */
  readonly limits: readonly string[];
  readonly budget: readonly string[];
  readonly demand: readonly string[];
  readonly models: readonly { readonly name: string; readonly sentences: readonly string[] }[];
  readonly notComputed: readonly string[];
};

export function sentencesOf(facts: ExplainedFacts): ExplanationSentences {
  return {
    headline: headline(facts),
    limits: byWeight(facts.limits).flatMap(limitSentence),
    budget: facts.budget.map(
      ({ factor, budgetUsdPerHour, change }) =>
        `A budget ${tenth(factor)} (${usd(budgetUsdPerHour)} USD/h) ${wouldDo(change)}.`,
    ),
    demand: facts.demand.length === 0 ? [] : [demandSentence('all models', facts.demand)],
    models: facts.models.map((model) => ({ name: model.name, sentences: modelSentences(model) })),
    notComputed: facts.notComputed.map(({ message }) => message),
  };
}

/** The sentences in the order in which they are read. */
export function inOrder(said: ExplanationSentences): readonly string[] {
  return [
    ...said.headline,
    ...said.limits,
    ...said.budget,
    ...said.demand,
    ...said.models.flatMap((model) => model.sentences),
    ...said.notComputed,
  ];
}

const routingWords = {
  free: 'Routing is assumed to be free: each bucket has shares of its own, which the router must follow.',
  proportional: 'Routing is assumed to be proportional: all buckets share alike, as a weighted Service does.',
} as const;

function headline(facts: ExplainedFacts): readonly string[] {
  const { objectiveUsdPerHour, boundUsdPerHour, switchingUsdPerHour, proven, unserved, plannedModels, model } = facts;
  const others = plannedModels - 1;
  const asides = [
    ...(model === null || others === 0
      ? []
      : [`${model} and the ${counted(others, 'model')} that ${others === 1 ? 'shares' : 'share'} limits with it`]),
    ...(switchingUsdPerHour > 0 ? [`${usd(switchingUsdPerHour)} of it for starts and stops`] : []),
  ];
  const whose = asides.length === 0 ? '' : ` (${asides.join('; ')})`;
  const left = unserved.reduce((sum, { rps }) => sum + rps, 0);
  const what = left > 0 ? 'serves as much' : 'serves this demand';
  const proof = proven
    ? `: no plan that ${what} is cheaper (proven)`
    : boundUsdPerHour > 0
      ? `: no plan that ${what} is known to be cheaper, and none can cost less than ${usd(boundUsdPerHour)}`
      : ', without a proof';
  const sentences = [`The plan costs ${usd(objectiveUsdPerHour)} USD/h${whose}${proof}.`];
  if (left > 0) {
    const levels = unserved.map(({ priority, rps }) => `${amount(rps)} of priority ${priority}`).join(', ');
    const which = unserved.length > 1 ? ` (${levels})` : '';
    sentences.push(`It leaves ${amount(left)} of ${amount(facts.rps)} requests/s unserved${which}.`);
  }
  if (facts.status === 'infeasible') {
    sentences.push('It is infeasible: a share of demand that is promised (minServedShare) cannot be served.');
  }
  return [...sentences, routingWords[facts.routing]];
}

/** Limits by what removing them is worth: unserved demand first, then money. */
function byWeight(limits: readonly ExplainedLimit[]): readonly ExplainedLimit[] {
  const rank = ({ binds }: ExplainedLimit): number => (binds === true ? 0 : binds === null ? 1 : 2);
  return [...limits].sort(
    (a, b) =>
      rank(a) - rank(b) ||
      (a.without?.unservedRps ?? 0) - (b.without?.unservedRps ?? 0) ||
      (a.without?.usdPerHour ?? 0) - (b.without?.usdPerHour ?? 0),
  );
}

function limitSentence(limit: ExplainedLimit): readonly string[] {
  const { kind, binds, without, oneMore, limit: size, used, full } = limit;
  const name = limitName(limit);
  // Not computed: that is said once for all of them.
  if (without === null) return [];
  if (kind === 'pool' || kind === 'quota') {
    const gpus = `${exact(used)} of ${exact(size)} GPUs used`;
    if (binds === false) {
      return [`${name} is not scarce (${gpus}): no better plan exists without this limit.`];
    }
    if (oneMore !== null) {
      const more = oneMore.by === 1 ? `One more ${limit.gpuType}` : `${exact(oneMore.by)} more ${limit.gpuType}`;
      const where = kind === 'quota' ? ` in the quota of ${limit.namespace}` : '';
      return [`${more}${where} ${wouldDo(oneMore.change)} (${gpus}); without the limit: ${outcome(without)}.`];
    }
    const state = `${name} is ${full ? 'full' : 'not full'} (${gpus})`;
    if (binds === null) return [`${state}: whether it binds is not proven.`];
    return [`${state}: one more changes nothing; without the limit: ${outcome(without)}.`];
  }
  if (kind === 'budget') {
    return [
      binds === false
        ? `The budget of ${usd(size)} USD/h does not bind (${usd(used)} used).`
        : `Without the budget of ${usd(size)} USD/h: ${outcome(without)}.`,
    ];
  }
  if (kind === 'max_replicas') {
    if (binds === false) return [`${name} is reached, and costs nothing: no better plan exists above it.`];
    return [
      oneMore === null
        ? `${name} is reached: without it: ${outcome(without)}.`
        : `One more replica of ${limit.deployment} ${wouldDo(oneMore.change)} (maxReplicas ${size}); without that ceiling: ${outcome(without)}.`,
    ];
  }
  if (binds === false) return [`${name} changes nothing.`];
  return [`${name}: without it: ${outcome(without)}.`];
}

/** `Pool H100`, `The floor of 2 replicas of default/a`. */
export function limitName(limit: ExplainedLimit): string {
  switch (limit.kind) {
    case 'pool':
      return `The pool of ${limit.gpuType}`;
    case 'quota':
      return `The quota of ${limit.namespace} for ${limit.gpuType}`;
    case 'budget':
      return 'The budget';
    case 'max_replicas':
      return `The ceiling of ${replicasInWords(limit.limit)} of ${limit.deployment}`;
    case 'floor':
      return `The floor of ${replicasInWords(limit.limit)} of ${limit.deployment}`;
    case 'fixed':
      return `${limit.deployment}, fixed at ${replicasInWords(limit.limit)} by request`;
    case 'min_served_share':
      return `The promise to serve ${percent(limit.limit)} of ${limit.model}`;
  }
}

function modelSentences(model: ExplainedModel): readonly string[] {
  const { name, status, heldReason } = model;
  if (status === 'held') return [`${name} is held (${heldReason ?? 'no plan'}): nothing is known about other plans.`];
  return [
    ...(model.demand.length === 0 ? [] : [demandSentence(name, model.demand)]),
    ...(model.runnerUp === null ? [] : [runnerUpSentence(name, model.runnerUp)]),
    ...nearestFirst(model.unused).flatMap(unusedSentence),
    ...costSentence(model),
  ];
}

/** By how far the price is from the one at which it would be used: the nearest is the most interesting. */
export function nearestFirst(unused: readonly UnusedDeployment[]): readonly UnusedDeployment[] {
  const distance = ({ entersBelowUsdPerReplicaHour: entry, usdPerReplicaHour }: UnusedDeployment): number =>
    entry === null || usdPerReplicaHour === 0 ? 1 : 1 - entry / usdPerReplicaHour;
  return [...unused].sort((a, b) => distance(a) - distance(b));
}

/** `10 % less demand of chat would save 0.80 USD/h; 10 % more would cost 0.80 USD/h more.` */
export function demandSentence(whose: string, changes: readonly DemandChange[]): string {
  const parts = changes.map(
    ({ factor, change }, i) =>
      `10 % ${factor < 1 ? 'less' : 'more'}${i === 0 ? ` demand of ${whose}` : ''} ${wouldDo(change, { otherDemand: true })}`,
  );
  return `${parts.join('; ')}.`;
}

export function runnerUpSentence(name: string, runnerUp: RunnerUp): string {
  const words = runnerUpWords(runnerUp);
  return runnerUp.change.unservedRps > 0
    ? `No other mix serves as much of ${name}; the next best is ${words}.`
    : `The next best mix for ${name} is ${words}.`;
}

/** `8 × L4: 0.60 USD/h more` */
export function runnerUpWords({ replicas, change }: RunnerUp): string {
  return `${mixOf(replicas)}: ${sameCost(change) ?? outcome(change)}`;
}

function sameCost(change: PlanChange): string | null {
  return servedPhrase(change) === null && moneyPhrase(change) === null ? 'it costs the same' : null;
}

/** `8 L4`, `2 A100 and 1 L4`; deployments of one GPU type by their ids. */
export function mixOf(
  replicas: readonly { readonly deployment: string; readonly gpuType: string; readonly replicas: number }[],
): string {
  if (replicas.length === 0) return 'no replica at all';
  const types = replicas.map(({ gpuType }) => gpuType);
  const names = replicas.map(({ deployment, gpuType, replicas: count }) => {
    const ambiguous = types.filter((type) => type === gpuType).length > 1;
    return `${count} × ${gpuType}${ambiguous ? ` (${deployment})` : ''}`;
  });
  return names.length === 1 ? names[0]! : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

export function unusedSentence(unused: UnusedDeployment): readonly string[] {
  const why = unusedBecause(unused);
  return why === null ? [] : [`${unused.gpuType} (${unused.deployment}) is not used: ${why}.`];
}

/** Why a deployment is not used, as a clause; null where nothing is to be said about it. */
export function unusedBecause(unused: UnusedDeployment): string | null {
  const { usdPerReplicaHour: price, why, proven, entersBelowUsdPerReplicaHour: entry } = unused;
  switch (why) {
    case 'price': {
      if (entry === null || entry >= price) return 'it could be at the same cost (a tie)';
      const now = `(now ${usd(price)}, ${wholePercent(1 - entry / price)} less)`;
      return proven
        ? `it would enter below ${usd(entry)} USD/h per replica ${now}`
        : `it would enter at ${usd(entry)} USD/h per replica ${now}, if not before`;
    }
    case 'never':
      return 'it would not be, even for nothing';
    case 'no_room':
      return 'limits and floors leave no room for one replica';
    case 'cannot_serve':
      return 'it cannot serve any of the demand';
    case 'not_common':
      return 'there are requests that it cannot serve, and proportional routing would send it some';
    case 'no_profile':
      return 'without a profile it is given no demand';
    case 'max_replicas':
      return 'its maxReplicas is 0';
    case 'fixed':
      return 'it is fixed at 0 replicas by request';
    case 'no_demand':
    case 'not_computed':
      return null;
  }
}

function costSentence(model: ExplainedModel): readonly string[] {
  const { name, buckets, usdPer1000Requests, usdPerHourWithoutWork } = model;
  const sentences: string[] = [];
  const priced = buckets.filter(({ usdPer1000Requests: price }) => price !== null);
  if (usdPer1000Requests !== null) {
    const prices = priced.map(({ usdPer1000Requests: price }) => price!);
    const range =
      prices.length > 1 ? `, between ${usd(Math.min(...prices))} and ${usd(Math.max(...prices))} by their lengths` : '';
    sentences.push(`1,000 requests to ${name} cost ${usd(usdPer1000Requests)} USD${range}.`);
  }
  if (usdPerHourWithoutWork > 0) {
    sentences.push(`Replicas of ${name} without demand cost ${usd(usdPerHourWithoutWork)} USD/h.`);
  }
  return sentences;
}

/** A count as it is: `1,024`, `0.5`. */
function exact(count: number): string {
  const [whole, fraction] = String(Number(count.toPrecision(12))).split('.');
  const separated = whole!.replace(/\B(?=(\d{3})+$)/g, ',');
  return fraction === undefined ? separated : `${separated}.${fraction}`;
}

/** `36 %`; a little is not called nothing. */
function wholePercent(share: number): string {
  return share < 0.005 ? 'less than 1 %' : `${Math.round(share * 100)} %`;
}

function tenth(factor: number): string {
  return factor < 1 ? '10 % smaller' : '10 % larger';
}

/** A change as what it would do: `would save 3.20 USD/h`. */
export function wouldDo(change: PlanChange, options: { readonly otherDemand?: boolean } = {}): string {
  const served = servedPhrase(change, options.otherDemand);
  const money = moneyPhrase(change);
  if (served === null && money === null) return 'would change nothing';
  return `would ${[served?.verb, money?.verb].filter((part) => part !== undefined).join(' and ')}`;
}

/** A change as what comes out: `3.20 USD/h less`. */
export function outcome(change: PlanChange): string {
  const served = servedPhrase(change);
  const money = moneyPhrase(change);
  if (served === null && money === null) return 'the same plan';
  return [served?.noun, money?.noun].filter((part) => part !== undefined).join(', ');
}

type Phrase = { readonly verb: string; readonly noun: string };

function servedPhrase({ unserved }: PlanChange, otherDemand = false): Phrase | null {
  if (unserved.length === 0) return null;
  const several = unserved.length > 1;
  /** `0.4 requests/s more of priority 0 and 0.2 less of priority -10`, counted as served or as unserved. */
  const levels = (more: (rps: number) => boolean, verb: string): string =>
    unserved
      .map(({ priority, rps }, i) => {
        const size = `${amount(Math.abs(rps))}${i === 0 ? ' requests/s' : ''} ${more(rps) ? 'more' : 'less'}`;
        return `${size}${i === 0 ? verb : ''}${several ? ` of priority ${priority}` : ''}`;
      })
      .join(' and ');
  const served = (rps: number): boolean => rps < 0;
  const unservedMore = (rps: number): boolean => rps > 0;
  const isLoss = unserved.every(({ rps }) => rps > 0);
  if (otherDemand || isLoss) {
    return { verb: `leave ${levels(unservedMore, ' unserved')}`, noun: levels(unservedMore, ' unserved') };
  }
  return { verb: `serve ${levels(served, '')}`, noun: levels(served, ' served') };
}

function moneyPhrase(change: PlanChange): Phrase | null {
  const { usdPerHour, lowestUsdPerHour: lowest, highestUsdPerHour: highest, proven } = change;
  if (!proven && (lowest === null || highest === null || highest > lowest)) return openMoneyPhrase(change);
  const money = `${usd(Math.abs(usdPerHour))} USD/h`;
  if (usdPerHour === 0) return null;
  return usdPerHour < 0
    ? { verb: `save ${money}`, noun: `${money} less` }
    : { verb: `cost ${money} more`, noun: `${money} more` };
}

/** What is not proven is told by its bounds; what was found is in the data. */
function openMoneyPhrase({ usdPerHour, lowestUsdPerHour: lowest, highestUsdPerHour: highest }: PlanChange): Phrase {
  if (lowest === null || highest === null) {
    const found = `${usd(Math.abs(usdPerHour))} USD/h`;
    return usdPerHour <= 0
      ? { verb: `save about ${found} (not proven)`, noun: `about ${found} less (not proven)` }
      : { verb: `cost about ${found} more (not proven)`, noun: `about ${found} more (not proven)` };
  }
  if (lowest < 0 && highest > 0) {
    const range = `${signed(lowest)} to ${signed(highest)} USD/h`;
    return { verb: `change the cost by ${range}`, noun: `a change of the cost by ${range}` };
  }
  const [least, most] = highest <= 0 ? [-highest, -lowest] : [lowest, highest];
  const range = least > 0 ? `between ${usd(least)} and ${usd(most)} USD/h` : `at most ${usd(most)} USD/h`;
  return highest <= 0
    ? { verb: `save ${range}`, noun: `${range} less` }
    : { verb: `cost ${range} more`, noun: `${range} more` };
}

function signed(value: number): string {
  return value > 0 ? `+${usd(value)}` : value < 0 ? `−${usd(-value)}` : '0.00';
}

/** Money as people read it: cents where they matter, three digits where there are none. */
export function usd(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return '0.00';
  if (size < 0.095) return size < 1e-6 ? 'less than 0.000001' : String(Number(value.toPrecision(2)));
  const [whole, cents] = value.toFixed(2).split('.');
  return `${whole!.replace(/\B(?=(\d{3})+$)/g, ',')}.${cents}`;
}
