import type { JointRun } from './joint.js';
import type { Configuration, JointMember } from './joint-member.js';

/**
 * Plans made by turns: members are given their part one after the other, by priority. Never the last word, but always a
 * plan that fits, and one in which nobody wants for what lies unused.
 */

/** Members in the order in which they are given their part. */
function byPriority(members: readonly JointMember[]): readonly number[] {
  const priorityOf = (m: number): number => members[m]!.stage.formulation.model.priority;
  return members.map((_, m) => m).sort((a, b) => priorityOf(b) - priorityOf(a) || a - b);
}

/**
 * Members are given their part in turn, of what those before them and the floors of those after them leave.
 *
 * @returns null where one finds none
 */
function oneAfterTheOther(
  members: readonly JointMember[],
  limits: Float64Array,
  choose: (member: JointMember, room: Float64Array) => Configuration | null,
): readonly Configuration[] | null {
  const chosen: (Configuration | null)[] = members.map(() => null);
  const least = members.map((member) => member.useOf(member.program.lower));
  const left = limits.map((limit, r) => limit - least.reduce((sum, use) => sum + use[r]!, 0));
  for (const m of byPriority(members)) {
    const room = left.map((amount, r) => amount + least[m]![r]!);
    const configuration = choose(members[m]!, room);
    if (configuration === null) return null;
    for (let r = 0; r < left.length; r++) left[r] = room[r]! - configuration.use[r]!;
    chosen[m] = configuration;
  }
  return chosen.map((configuration) => configuration!);
}

/** How closely a member searches when it is given its part in turn. */
function turnLimits(run: JointRun): JointRun['limits'] {
  return { ...run.limits, shouldStop: () => false, nodeLimit: 200, relativeGap: 1e-3 };
}

/** Every member as cheap as it can be with all that it could serve alone; null where what is left is too little for one. */
export function servedOneAfterTheOther(
  members: readonly JointMember[],
  limits: Float64Array,
  run: JointRun,
): readonly Configuration[] | null {
  const prices = { withMoney: true, limits: new Float64Array(limits.length), unserved: 0, required: 0 };
  return oneAfterTheOther(members, limits, (member, room) => {
    const answer = member.respond(prices, { limits: room, unservedRps: Number.POSITIVE_INFINITY }, turnLimits(run));
    run.spentNodes += answer.nodes;
    return answer.replicas === null ? null : member.know(answer.replicas);
  });
}

/** A plan that always fits: by priority, every member serves what it can of what is left, as cheaply as it can. */
export function anyOneAfterTheOther(
  members: readonly JointMember[],
  limits: Float64Array,
  run: JointRun,
): readonly Configuration[] {
  const nothing = new Float64Array(limits.length);
  const found = oneAfterTheOther(members, limits, (member, room) => {
    const most = member.respond(
      { withMoney: false, limits: nothing, unserved: 1, required: 0 },
      { limits: room, unservedRps: Number.POSITIVE_INFINITY },
      turnLimits(run),
    );
    run.spentNodes += most.nodes;
    const best = member.know(most.replicas ?? member.program.lower);
    return cheapestAt(member, { best, room, run });
  });
  return found ?? members.map((member) => member.know(member.program.lower));
}

/** Unserved demand that falls by less than this part of a member's demand has not fallen. */
const gainTolerance = 1e-9;

/**
 * A plan in which no member leaves demand unserved that it could serve with what lies unused, or with what members of
 * lower priority have above their floors (and are not required to serve with).
 *
 * @param chosen a plan that fits
 * @returns the plan itself where that is so already
 */
export function refill(
  members: readonly JointMember[],
  limits: Float64Array,
  { chosen, run }: { readonly chosen: readonly Configuration[]; readonly run: JointRun },
): readonly Configuration[] {
  const order = byPriority(members);
  const priorityOf = (m: number): number => members[m]!.stage.formulation.model.priority;
  const floors = members.map((member) => member.useOf(member.program.lower));
  const result = chosen.slice();
  const isGiven = new Uint8Array(members.length);
  const nothing = new Float64Array(limits.length);
  for (const m of order) {
    const member = members[m]!;
    const now = result[m]!;
    const room = limits.slice();
    members.forEach((other, o) => {
      if (o === m) return;
      const yields = isGiven[o] === 0 && priorityOf(o) < priorityOf(m) && !other.requires;
      const use = yields ? floors[o]! : result[o]!.use;
      for (let r = 0; r < room.length; r++) room[r] = room[r]! - use[r]!;
    });
    isGiven[m] = 1;
    const fits = now.use.every((amount, r) => amount <= room[r]! * (1 + 1e-9) + 1e-12);
    const isServed = now.unservedRps <= member.leastUnservedRps + gainTolerance * member.totalRps;
    if (fits && isServed) continue;
    const most = member.respond(
      { withMoney: false, limits: nothing, unserved: 1, required: 0 },
      { limits: room, unservedRps: Number.POSITIVE_INFINITY },
      { ...turnLimits(run), relativeGap: 0 },
    );
    run.spentNodes += most.nodes;
    const best = member.know(most.replicas ?? member.program.lower);
    if (fits && now.unservedRps - best.unservedRps <= gainTolerance * member.totalRps) continue;
    result[m] = cheapestAt(member, { best, room, run });
  }
  return result;
}

/** The cheapest configuration within some room that leaves no more unserved than another. */
function cheapestAt(
  member: JointMember,
  { best, room, run }: { readonly best: Configuration; readonly room: Float64Array; readonly run: JointRun },
): Configuration {
  const cheapest = member.respond(
    { withMoney: true, limits: new Float64Array(room.length), unserved: 0, required: 0 },
    { limits: room, unservedRps: best.unservedRps },
    turnLimits(run),
  );
  run.spentNodes += cheapest.nodes;
  if (cheapest.replicas === null) return best;
  const cheap = member.know(cheapest.replicas);
  return cheap.unservedRps <= best.unservedRps * (1 + 1e-12) ? cheap : best;
}
