import type { PlanNotice } from '../core/plan.js';
import type { PlanningProblem, ProblemDeployment, ProblemModel } from '../core/planning-problem.js';
import { mixCapacity } from './mix-capacity.js';
import { replicas as replicasInWords } from './reason.js';
import {
  enter,
  gpuCount,
  isAbove,
  isLeaving,
  isOverfull,
  type Move,
  makeRoomForTargets,
  missingGpus,
  mostPublished,
  publish,
  replicasFor,
  running,
  runningGpus,
  type SharedRoom,
  serving,
  servingNow,
  sharedRooms,
  surplus,
  unready,
  unreadySurplus,
} from './transition-room.js';

/**
 * Make before break: from what runs now towards the targets, one safe step at a time. No step remembers another one: it
 * is made from what is asked for and ready now, so the targets may change between two steps.
 *
 * 1. At once: deployments that a person fixed, those without a profile, and those of which the current replicas are not
 *    known. And whole models that nobody could follow: where readiness is not known of any of their deployments, or of
 *    one neither what is asked for nor what is ready. Held models stay.
 * 2. A model's surplus (replicas beyond a target) stays until its other deployments are ready at their targets. When
 *    some of the new replicas are, as much of the old goes as they replace, and only where what stays ready serves the
 *    whole demand in its present mix, and as much of it as the targets will (`mixCapacity`). Where readiness is known of
 *    some deployments and not of this one, a source has a gap: it counts as not ready for the others, so that nothing
 *    of theirs goes because an input is missing, and as all ready for the GPUs it may hold.
 * 3. Room: no more is published in a pool or quota than fits beside what is ready. What does not fit goes where it is
 *    not ready, for it could not start and nobody is served by it: first surplus, then also replicas of a target, down
 *    to those that are ready, of the lowest priority first. They come back as growth when there is room. Where less is
 *    left of a pool than is ready in it, running surplus goes at once, as much as must (`pool_below_running`).
 * 4. Growth takes the room there is, by priority, then name. Surplus that is not ready makes room for it.
 * 5. Break before make, where waiting cannot help: a quarter of a model's running replicas, rounded up, goes at most in
 *    one step, of the lowest priority first, and no more than the growth needs that waits (`break_before_make`).
 *
 * What holds of every step, with the room of a pool or quota = the larger of its GPUs and what the targets need in it:
 *   a. Where the current number is known, a number lies between it and the target, both included; rule 3 may go below
 *      both, never below what is ready.
 *   b. In every pool and quota max(ready, published) × GPUs per replica of all deployments is at most its room, or what
 *      is ready in it where that is more. What goes to its target at once counts here as if it were ready.
 *   c. Where what is published becomes ready, what is released goes, and what is not known becomes known, in any order
 *      and in finite time, the targets are reached after finitely many steps: after the first one numbers only move
 *      towards them, and with nothing on its way the first growth that waits either fits or has surplus released for
 *      it. (Targets that fit need no more than the surplus. GPUs of ready replicas whose target is not known are in
 *      nobody's plan, and growth may wait for them for ever.)
 *   d. Where nothing is short of room, ready replicas go only when the rest serves as rule 2 says.
 *
 * Waiting can help in a room where a replica is on its way out, or where a model in motion has surplus: one with
 * replicas that start, or with growth that waits where waiting helps. Of two models that wait for each other's GPUs
 * only one breaks, then: that of lower priority. A replica that never starts is not for this rule to find; the service
 * marks its GPU type as short, and the targets change.
 */
export type Transition = {
  /** To publish now, by deployment id; null = not known. */
  readonly replicas: ReadonlyMap<string, number | null>;
  readonly warnings: readonly PlanNotice[];
};

/**
 * The next step.
 *
 * @param input.targets by deployment id; null or absent = not known, and it stays at what it has
 * @param input.held names of models that keep what they have
 */
export function stepTowards(input: {
  readonly problem: PlanningProblem;
  readonly targets: ReadonlyMap<string, number | null>;
  readonly held: ReadonlySet<string>;
}): Transition {
  const { problem, targets, held } = input;
  const rooms = sharedRooms(problem);
  const models = problem.models.map((model) => enterModel({ model, targets, isHeld: held.has(model.name), rooms }));
  makeRoomForTargets(rooms.all);
  for (const room of rooms.all) room.members.sort(byRelease);
  const inOrder = models.flatMap(({ moves }) => moves).sort(byPriority);
  const warnings = new Warnings();

  for (const model of models) releaseReplaced(model);
  for (const room of rooms.all) fitPublished(room, warnings);
  for (const move of inOrder) grow(move);
  breakBeforeMake({ inOrder, models, warnings });

  const replicas = new Map<string, number | null>();
  for (const { moves } of models) for (const { deployment, published } of moves) replicas.set(deployment.id, published);
  return { replicas, warnings: warnings.list() };
}

type ModelMoves = { readonly model: ProblemModel; readonly moves: readonly Move[] };

/** Rule 1: where each deployment of a model begins. */
function enterModel(input: {
  readonly model: ProblemModel;
  readonly targets: ReadonlyMap<string, number | null>;
  readonly isHeld: boolean;
  readonly rooms: ReturnType<typeof sharedRooms>;
}): ModelMoves {
  const { model, targets, isHeld, rooms } = input;
  const targetOf = (deployment: ProblemDeployment): number | null => {
    const kept = deployment.fixedReplicas ?? deployment.currentReplicas;
    return isHeld ? kept : (targets.get(deployment.id) ?? kept);
  };
  const isFollowed =
    model.deployments.some(({ readyReplicas }) => readyReplicas !== null) &&
    model.deployments.every((deployment) => isTraceable(deployment, targetOf(deployment)));
  const moves = model.deployments.map((deployment): Move => {
    const { currentReplicas: current, readyReplicas } = deployment;
    const target = targetOf(deployment);
    const isStaged = isFollowed && !isHeld && !isStanding(deployment) && current !== null;
    const published = isStaged ? current : target;
    const ready = readyReplicas ?? current ?? 0;
    const move: Move = {
      model,
      deployment,
      current,
      ready,
      isReadinessKnown: readyReplicas !== null,
      target,
      isStaged,
      published,
      rooms: rooms.of(deployment),
    };
    enter(move);
    return move;
  });
  return { model, moves };
}

function isStanding({ fixedReplicas, profile }: ProblemDeployment): boolean {
  return fixedReplicas !== null || profile === null;
}

/** Is anything known of where it is? Nothing waits for those without a profile. */
function isTraceable(deployment: ProblemDeployment, target: number | null): boolean {
  const { currentReplicas, readyReplicas, profile } = deployment;
  if (profile === null) return true;
  return target !== null && (currentReplicas !== null || readyReplicas !== null);
}

/** Rule 2. */
function releaseReplaced({ model, moves }: ModelMoves): void {
  const lacking = moves.filter(isLacking);
  const leaving = moves.filter((move) => surplus(move) > 0);
  const arrived = lacking.filter((move) => move.target! >= (move.current ?? 0) && serving(move) > 0);
  for (const move of leaving) {
    // Its own missing replicas are no reason to keep more of the same.
    if (lacking.every((other) => other === move)) publish(move, move.target!);
  }
  const kept = leaving.filter((move) => surplus(move) > 0);
  if (kept.length === 0 || arrived.length === 0) return;

  const { rpsPerReplica, demandRps } = mixCapacity(model);
  const capacityOf = ({ deployment }: Move) => rpsPerReplica.get(deployment.id)!;
  const total = (over: readonly Move[], replicasOf: (move: Move) => number): number =>
    over.reduce((sum, move) => sum + capacityOf(move) * replicasOf(move), 0);
  const needed = Math.max(
    demandRps,
    total(moves, ({ target }) => target ?? 0),
  );
  const replaced = total(arrived, serving);
  let spare = Math.min(total(moves, serving) - needed * (1 - 1e-9), replaced);
  if (!(demandRps > 0 && replaced > 0 && spare >= 0)) return;
  // What costs most for what it serves goes first; what cannot take its part of the mix, before all.
  const priceOf = (move: Move): number => {
    const capacity = capacityOf(move);
    return capacity > 0 ? move.deployment.usdPerReplicaHour / capacity : Number.POSITIVE_INFINITY;
  };
  for (const move of kept.toSorted((a, b) => descending(priceOf(a), priceOf(b)) || byPriority(a, b))) {
    const capacity = capacityOf(move);
    const most = serving(move) - move.target!;
    const released = capacity > 0 ? Math.min(most, Math.floor(spare / capacity + 1e-9)) : most;
    if (released <= 0) continue;
    spare -= released * capacity;
    publish(move, serving(move) - released);
  }
}

/** Is a replica of its target not ready yet? Nothing waits for those without a profile: they serve nothing in the plan. */
function isLacking(move: Move): boolean {
  const { deployment, target } = move;
  return target !== null && servingNow(move) < target && deployment.profile !== null;
}

/** Rule 3. */
function fitPublished(room: SharedRoom, warnings: Warnings): void {
  for (const unwanted of [unreadySurplus, unready]) {
    for (const move of room.members) {
      const above = room.taken - room.room;
      if (!isAbove(above, room)) break;
      const count = Math.min(unwanted(move), replicasFor(above, move));
      if (count > 0) publish(move, move.published! - count);
    }
  }
  const runs = runningGpus(room);
  let above = runs - room.room;
  for (const move of room.members) {
    if (!isAbove(above, room)) return;
    const count = Math.min(surplus(move), replicasFor(above, move));
    if (count === 0) continue;
    const because = `${gpuCount(runs)} run in ${room.name}`;
    warnings.add({ code: 'pool_below_running', move, count, because });
    publish(move, running(move) - count);
    above -= count * move.deployment.gpusPerReplica;
  }
}

/** Rule 4. */
function grow(move: Move): void {
  const { isStaged, target, rooms } = move;
  if (!isStaged || target === null || move.published === null || move.published >= target) return;
  let most = target;
  for (const room of rooms) {
    most = Math.min(most, mostPublished(move, room, room.idle));
  }
  if (most <= move.published) return;
  for (const room of rooms) {
    let missing = missingGpus(move, room, most);
    for (const other of room.members) {
      if (!isAbove(missing, room)) break;
      const count = Math.min(unreadySurplus(other), replicasFor(missing, other));
      if (count > 0) publish(other, other.published! - count);
      missing -= count * other.deployment.gpusPerReplica;
    }
  }
  publish(move, most);
}

/** Rule 5. */
function breakBeforeMake(input: {
  readonly inOrder: readonly Move[];
  readonly models: readonly ModelMoves[];
  readonly warnings: Warnings;
}): void {
  const { inOrder, models, warnings } = input;
  const waiting = inOrder.filter((move) => blockingRooms(move).length > 0);
  if (waiting.length === 0) return;
  const movesOf = new Map(models.map(({ model, moves }) => [model, moves]));
  const inMotion = new Set<ProblemModel>();
  /** Rooms in which waiting helps. */
  const helped = new Set<SharedRoom>();
  const setInMotion = (model: ProblemModel): void => {
    inMotion.add(model);
    for (const move of movesOf.get(model)!) if (surplus(move) > 0) for (const room of move.rooms) helped.add(room);
  };
  const follow = (): void => {
    for (let changed = true; changed; ) {
      changed = false;
      for (const move of waiting) {
        if (inMotion.has(move.model) || !blockingRooms(move).every((room) => helped.has(room))) continue;
        setInMotion(move.model);
        changed = true;
      }
    }
  };

  for (const move of inOrder) if (isLeaving(move)) for (const room of move.rooms) helped.add(room);
  for (const { model, moves } of models) if (moves.some(isStarting)) setInMotion(model);
  follow();

  const budgets = new Map<ProblemModel, number>();
  const budgetOf = (model: ProblemModel): number => {
    const known = budgets.get(model);
    if (known !== undefined) return known;
    const runs = movesOf.get(model)!.reduce((sum, move) => sum + running(move), 0);
    const budget = Math.ceil(runs / 4);
    budgets.set(model, budget);
    return budget;
  };
  for (const move of waiting) {
    if (inMotion.has(move.model)) continue;
    let isHelped = false;
    for (const room of blockingRooms(move)) {
      if (helped.has(room)) continue;
      let needed = missingGpus(move, room, move.target!);
      for (const owner of room.members) {
        if (!isAbove(needed, room)) break;
        const unready = Math.min(unreadySurplus(owner), replicasFor(needed, owner));
        if (unready > 0) publish(owner, owner.published! - unready);
        needed -= unready * owner.deployment.gpusPerReplica;
        const count = Math.min(surplus(owner), replicasFor(needed, owner), budgetOf(owner.model));
        if (count > 0) {
          const because = `${move.deployment.id} needs room in ${room.name}, where nothing else will leave any`;
          warnings.add({ code: 'break_before_make', move: owner, count, because });
          budgets.set(owner.model, budgetOf(owner.model) - count);
          publish(owner, running(owner) - count);
          needed -= count * owner.deployment.gpusPerReplica;
          for (const left of owner.rooms) helped.add(left);
        }
        if (unready > 0 || count > 0) isHelped = true;
      }
    }
    if (!isHelped) continue;
    setInMotion(move.model);
    follow();
  }
}

/** Rooms that keep a deployment from its target: no room for one more, or none for all that are published already. */
function blockingRooms(move: Move): readonly SharedRoom[] {
  const { published, target, rooms, isStaged, ready } = move;
  if (published === null || target === null || published > target) return [];
  const isGrowing = isStaged && published < target;
  if (!isGrowing && published <= ready) return [];
  return rooms.filter((room) => isOverfull(room) || (isGrowing && mostPublished(move, room) <= published));
}

/** Does a replica of its target start, in rooms that have a GPU for it? */
function isStarting(move: Move): boolean {
  const { deployment, published, target, rooms } = move;
  if (published === null || target === null || deployment.profile === null) return false;
  return Math.min(published, target) > servingNow(move) && !rooms.some(isOverfull);
}

/** Growth: highest priority first. */
function byPriority(a: Move, b: Move): number {
  return descending(a.model.priority, b.model.priority) || byName(a, b);
}

/** Release: lowest priority first. */
function byRelease(a: Move, b: Move): number {
  return descending(b.model.priority, a.model.priority) || byName(a, b);
}

function byName(a: Move, b: Move): number {
  return ascending(a.model.name, b.model.name) || ascending(a.deployment.id, b.deployment.id);
}

function ascending(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function descending(a: number, b: number): number {
  return a > b ? -1 : a < b ? 1 : 0;
}

/** One sentence for each deployment, room and cause. */
class Warnings {
  readonly #notices: PlanNotice[] = [];

  /** To be called before the step is published: it names what runs until then. */
  add(release: {
    readonly code: 'break_before_make' | 'pool_below_running';
    readonly move: Move;
    readonly count: number;
    readonly because: string;
  }): void {
    const { code, move, count, because } = release;
    const { deployment, model } = move;
    const verb = count === 1 ? 'is' : 'are';
    this.#notices.push({
      code,
      message: `${deployment.id}: ${count} of its ${replicasInWords(running(move))} ${verb} released before what replaces ${count === 1 ? 'it' : 'them'} is ready: ${because}`,
      model: model.name,
      deployment: deployment.id,
    });
  }

  list(): readonly PlanNotice[] {
    return this.#notices;
  }
}
