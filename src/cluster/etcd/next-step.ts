/**
 * Membership of etcd as a pure function: from the state of hosts and members, the next single step towards the wanted
 * members. Every step keeps the quorum, and is chosen again from the new state, so that whoever continues after a crash
 * needs to know nothing of what came before.
 *
 * Source: etcd, design of learners, and runtime reconfiguration: one change at a time; a learner has no vote; a
 * cluster of two voters stops when either is lost.
 */

/** A host of the cluster. */
export interface HostState {
  readonly name: string;
  /** Order in which hosts joined; the first ones are preferred. */
  readonly order: number;
  /** `gone`: it leaves, or is removed. */
  readonly wanted: 'member' | 'client' | 'gone';
  /** It has the certificates of a member, and etcd of a version that can join; its daemon can start it at once. */
  readonly prepared: boolean;
  /** Its daemon runs and reports. */
  readonly live: boolean;
  /** Its etcd is installed, and of a version that can join. */
  readonly capable: boolean;
  /** It reports another address than its record has. */
  readonly moved: boolean;
}

/** A member of etcd. */
export interface MemberState {
  readonly id: string;
  /** The host with its address; `undefined` if no host of the cluster has it. */
  readonly host: string | undefined;
  readonly isLearner: boolean;
  /** It responds; a learner that responds has started. */
  readonly healthy: boolean;
  /** It has responded for so long that etcd allows further changes right after it has a vote. */
  readonly settled: boolean;
  readonly isLeader: boolean;
  /** Its host has been told to start it. */
  readonly announced: boolean;
  /** It has not become a voter in the time that it has. */
  readonly late: boolean;
}

/** The state that decides the next step. */
export interface MembershipState {
  /** Voters wanted, of as many hosts as can be members. */
  readonly size: 1 | 3 | 5;
  readonly hosts: readonly HostState[];
  readonly members: readonly MemberState[];
}

export type Step =
  /** Tell a host to prepare for being a member, or that it is a client. */
  | { readonly kind: 'want'; readonly host: string; readonly part: 'member' | 'client' }
  /** Add a prepared host as a learner. */
  | { readonly kind: 'add'; readonly host: string }
  /** Tell a host to start the member that it is. */
  | { readonly kind: 'announce'; readonly host: string; readonly id: string }
  /** Give a learner its vote; etcd refuses until it has caught up. */
  | { readonly kind: 'promote'; readonly id: string; readonly host: string }
  | {
      readonly kind: 'remove';
      readonly id: string;
      readonly host: string | undefined;
      /** A learner that did not start: its host must prepare again. */
      readonly failed: boolean;
    }
  /** Another member must lead before this one can be removed without an election. */
  | { readonly kind: 'move-leader'; readonly to: string }
  /** Tell the members the new address of a host. */
  | { readonly kind: 'readdress'; readonly host: string }
  /** Delete what the cluster has of a host that left: its user, its node, its records. */
  | { readonly kind: 'forget'; readonly host: string }
  | { readonly kind: 'wait'; readonly why: string }
  | { readonly kind: 'done' };

/** Returns the hosts that must be voters in the end, an odd number of them. */
export function wantedVoters({ size, hosts, members }: MembershipState): ReadonlySet<string> {
  const voters = members.filter((member) => !member.isLearner);
  const voterOf = (host: string) => voters.find((member) => member.host === host);
  const isLearner = (host: string) => members.some((one) => one.isLearner && one.host === host);
  // An even number of voters is a state between two: who cannot follow at once does not keep it waiting.
  const isBetween = voters.length % 2 === 0;
  const rank = ({ name }: HostState) => {
    const voter = voterOf(name);
    if (voter !== undefined) return voter.healthy ? 0 : 1;
    return isLearner(name) ? 2 : 3;
  };
  const eligible = hosts
    .filter(({ name, wanted, prepared, live, capable }) => {
      if (wanted === 'gone') return false;
      if (voterOf(name) !== undefined) return true;
      return live && capable && (prepared || !isBetween);
    })
    .toSorted((a, b) => rank(a) - rank(b) || a.order - b.order);
  const most = Math.min(size, eligible.length);
  const count = most % 2 === 1 ? most : Math.max(most - 1, 0);
  return new Set(eligible.slice(0, count).map(({ name }) => name));
}

/** Returns the next step; `done` if nothing is to be done. */
export function nextStep(state: MembershipState): Step {
  const { hosts, members } = state;
  const voters = members.filter((member) => !member.isLearner);
  if (!hasQuorum(voters)) return wait('a majority of the members does not respond');
  const targets = wantedVoters(state);
  const moved = hosts.find((one) => one.moved && mayMove(one, voters));
  if (moved !== undefined) return { kind: 'readdress', host: moved.name };
  if (targets.size === 0) return wait('no other host can be a member');
  return (
    nextPart(state, targets, 'member') ??
    stepOfLearner(state, voters, targets) ??
    nextAddition(hosts, voters, targets) ??
    nextRemoval(voters, targets) ??
    nextPart(state, targets, 'client') ??
    nextFarewell(state) ?? { kind: 'done' }
  );
}

/** Tells a host its part, if it is this one. Members are told first, the others when no change is under way. */
function nextPart(
  { hosts, members }: MembershipState,
  targets: ReadonlySet<string>,
  part: 'member' | 'client',
): Step | undefined {
  const found = hosts.find(({ name, wanted }) => {
    if (wanted === 'gone' || wanted === part) return false;
    const isVoter = members.some((member) => !member.isLearner && member.host === name);
    return (isVoter || targets.has(name)) === (part === 'member');
  });
  return found && { kind: 'want', host: found.name, part };
}

function stepOfLearner(
  { hosts, members }: MembershipState,
  voters: readonly MemberState[],
  targets: ReadonlySet<string>,
): Step | undefined {
  const [learner, other] = members.filter((member) => member.isLearner);
  if (learner === undefined) return undefined;
  // Added by another tool, as etcd 3.5 can be set to allow it.
  const { id, host } = other ?? learner;
  if (other !== undefined || host === undefined || !targets.has(host)) {
    return { kind: 'remove', id, host, failed: false };
  }
  if (!learner.announced) return { kind: 'announce', host, id };
  if (learner.late) return { kind: 'remove', id, host, failed: true };
  if (!learner.healthy) return wait(`etcd on ${host} starts`);
  const isEven = (voters.length + 1) % 2 === 0;
  // Two have a vote only until the third follows; etcd would let that one wait as well.
  if (isEven && !learner.settled) return wait(`etcd on ${host} has just started`);
  const others = hosts.filter(({ name }) => name !== host && isMissing(name, voters, targets));
  const isReplacement = voters.some(
    (voter) => voter.host === undefined || !targets.has(voter.host),
  );
  const unready = others.find((one) => !isReady(one));
  if (isEven && !isReplacement && unready !== undefined) return wait(`${unready.name} prepares`);
  return { kind: 'promote', id, host };
}

function nextAddition(
  hosts: readonly HostState[],
  voters: readonly MemberState[],
  targets: ReadonlySet<string>,
): Step | undefined {
  const missing = hosts
    .filter(({ name }) => isMissing(name, voters, targets))
    .toSorted((a, b) => a.order - b.order);
  const [first] = missing;
  if (first === undefined) return undefined;
  const unready = missing.find((one) => !isReady(one));
  if (unready !== undefined) return wait(`${unready.name} prepares`);
  return { kind: 'add', host: first.name };
}

function nextRemoval(
  voters: readonly MemberState[],
  targets: ReadonlySet<string>,
): Step | undefined {
  const [leaving] = voters
    .filter(({ host }) => host === undefined || !targets.has(host))
    .toSorted(
      (a, b) => Number(a.healthy) - Number(b.healthy) || Number(a.isLeader) - Number(b.isLeader),
    );
  if (leaving === undefined) return undefined;
  const staying = voters.filter((voter) => voter !== leaving);
  if (!hasQuorum(staying)) return wait('too many members do not respond');
  const heir = staying.find((voter) => voter.healthy && voter.host !== undefined);
  if (leaving.isLeader && heir !== undefined) return { kind: 'move-leader', to: heir.id };
  return { kind: 'remove', id: leaving.id, host: leaving.host, failed: false };
}

/** A member restarts with its new address: the others must have the quorum meanwhile, unless there is no other. */
function mayMove({ name, wanted }: HostState, voters: readonly MemberState[]): boolean {
  if (wanted === 'gone') return false;
  const others = voters.filter(({ host }) => host !== name);
  if (others.length === 0 || others.length === voters.length) return true;
  return others.filter(({ healthy }) => healthy).length > voters.length / 2;
}

/** A host whose daemon still runs leaves by itself first. Its member is gone by now. */
function nextFarewell({ hosts }: MembershipState): Step | undefined {
  const left = hosts.find(({ wanted, live }) => wanted === 'gone' && !live);
  return left && { kind: 'forget', host: left.name };
}

/** Reports whether more than half of the voters respond. */
export function hasQuorum(voters: readonly Pick<MemberState, 'healthy'>[]): boolean {
  return voters.filter(({ healthy }) => healthy).length > voters.length / 2;
}

function isMissing(
  name: string,
  voters: readonly MemberState[],
  targets: ReadonlySet<string>,
): boolean {
  return targets.has(name) && !voters.some((voter) => voter.host === name);
}

function isReady({ prepared, live }: HostState): boolean {
  return prepared && live;
}

function wait(why: string): Step {
  return { kind: 'wait', why };
}
