import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseCidr } from '../../ip/cidr.ts';
import {
  directions,
  profilePolicy,
  profileTier,
  type Direction,
  type Dispatch,
  type PacketEnd,
  type Policy,
  type PolicyId,
  type RuleAction,
  type Stack,
} from '../../ruleset/policy.ts';
import { blockChain, stackChain } from './names.ts';
import { IptablesPolicies, isDispatched } from './policies.ts';
import { renderRule } from './rule-text.ts';

/** The programmed state, and what is wrong with it at any moment. */
class Held {
  readonly chains = new Map<string, string>();
  readonly sets = new Map<string, Set<string>>();
  readonly policies = new IptablesPolicies([4, 6], {
    setChain: (family, { name, rules }) => {
      this.chains.set(`${family} ${name}`, rules.map((rule) => renderRule(rule)).join('\n'));
    },
    removeChain: (family, name) => this.chains.delete(`${family} ${name}`),
    addSet: ({ name }) => {
      if (!this.sets.has(name)) this.sets.set(name, new Set());
    },
    removeSet: (name) => this.sets.delete(name),
    addMember: (set, member) => {
      const members = this.sets.get(set) ?? assert.fail(`member of no set: ${set}`);
      members.add(member);
    },
    removeMember: (set, member) => this.sets.get(set)?.delete(member),
  });

  constructor() {
    this.policies.start();
  }

  /** Returns the chain to which the dispatch leads the packets of an endpoint's address and interface. */
  dispatched(direction: Direction, member: string): string {
    for (let chain = blockChain(direction); ;) {
      const rules = this.chains.get(`4 ${chain}`) ?? assert.fail(chain);
      const next = rules.split('\n').find((rule) => {
        const set = /--match-set (\S+)/.exec(rule)?.[1];
        const isMatched = set === undefined || this.sets.get(set)?.has(member) === true;
        return rule.includes('--goto') && !rule.includes('--ctstate') && isMatched;
      });
      chain = /--goto (\S+)/.exec(next ?? '')?.[1] ?? assert.fail(rules);
      if (!chain.startsWith(`${blockChain(direction)}-`)) return chain;
    }
  }

  state(): object {
    const sorted = <T>(map: ReadonlyMap<string, T>) =>
      [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
    return {
      chains: sorted(this.chains),
      sets: sorted(this.sets).map(([name, members]) => [name, [...members].toSorted()]),
      counters: this.policies
        .counters()
        .map(({ set, rule }) => `${set} ${JSON.stringify(rule)}`)
        .toSorted(),
    };
  }
}

const end: PacketEnd = {
  nets: [],
  notNets: [],
  ports: [],
  notPorts: [],
  namedPorts: [],
  notNamedPorts: [],
  selected: undefined,
  notSelected: undefined,
};

function policyOf(name: string, actions: readonly RuleAction[]): Policy {
  const rules = (direction: 'ingress' | 'egress') =>
    actions.map((action, at) => ({
      name: { policy: profilePolicy(name), direction, index: at + 1 },
      content: `${action} ${direction}`,
      action,
      ipVersion: undefined,
      protocol: undefined,
      notProtocol: undefined,
      icmp: undefined,
      notIcmp: undefined,
      source: end,
      destination: end,
    }));
  return {
    id: profilePolicy(name),
    ingress: rules('ingress'),
    egress: rules('egress'),
    problem: undefined,
  };
}

/** A stack of Profiles. */
function stackOf(profiles: readonly string[]): Stack {
  const policies = profiles.map(profilePolicy);
  const of = { ingress: policies, egress: policies };
  return {
    name: profiles.join(','),
    tiers: [{ name: profileTier, ...of, defaultAction: 'Pass', passLeaves: 'policy' }],
  };
}

const names = ['a', 'b', 'c'] as const;
const families = [4, 6] as const;
const stacks = names.flatMap((one) => [[one], ...names.map((other) => [one, other])]);

/** Policies first, then stacks of them, then the dispatches to the stack; and back. */
const world = fc.record({
  policies: fc.array(
    fc.record({
      name: fc.constantFrom(...names),
      actions: fc.array(fc.constantFrom<RuleAction>('Allow', 'Deny', 'Pass', 'Log'), {
        maxLength: 3,
      }),
    }),
    { maxLength: 8 },
  ),
  stacks: fc.uniqueArray(fc.nat(stacks.length - 1), { maxLength: 6 }),
  endpoints: fc.array(fc.record({ stack: fc.nat(5), host: fc.nat(3) }), { maxLength: 8 }),
});

function live(held: Held, of: typeof world extends fc.Arbitrary<infer T> ? T : never) {
  const present = of.stacks.map((at) => stacks[at] ?? assert.fail());
  const dispatches = of.endpoints.flatMap(({ stack, host }): readonly Dispatch[] => {
    const policies = present[stack];
    if (policies === undefined) return [];
    return families.map((family) => ({
      family,
      address: parseCidr(family === 4 ? `10.0.0.${host}/32` : `fd00::${host}/128`),
      interface: `cali${host}`,
      stack: policies.join(','),
    }));
  });
  for (const family of families) {
    for (const name of names) held.policies.setPolicy(family, policyOf(name, []));
    for (const { name, actions } of of.policies) {
      held.policies.setPolicy(family, policyOf(name, actions));
    }
    for (const policies of present) {
      held.policies.setStack(family, stackOf(policies));
    }
  }
  for (const dispatch of dispatches) held.policies.addDispatch(dispatch);
  return { present, dispatches };
}

test('everything added is removed again, and the rest is as if nothing else had existed', () => {
  fc.assert(
    fc.property(world, world, (first, second) => {
      const empty = new Held().state();
      const held = new Held();
      const leave = ({ present, dispatches }: ReturnType<typeof live>) => {
        for (const dispatch of dispatches) {
          held.policies.removeDispatch(dispatch);
        }
        for (const family of families) {
          for (const policies of present) held.policies.removeStack(family, policies.join(','));
          for (const name of names) held.policies.removePolicy(family, profilePolicy(name));
        }
      };
      const before = live(held, first);
      leave(before);
      assert.deepEqual(held.state(), empty);
      live(held, second);
      const fresh = new Held();
      live(fresh, { ...second, policies: lastOfEach(second.policies) });
      assert.deepEqual(held.state(), fresh.state());
    }),
  );
});

test('an address is dispatched until its last dispatch is removed, and counts as dispatched only if all sets contain it', () => {
  const held = new Held();
  const { dispatches } = live(held, {
    policies: [],
    stacks: [0],
    endpoints: [
      { stack: 0, host: 1 },
      { stack: 0, host: 1 },
    ],
  });
  const isHeld = (set: string, member: string) => held.sets.get(set)?.has(member) ?? false;
  const [one, ofOtherFamily, ...again] = dispatches;
  assert.ok(one !== undefined && ofOtherFamily !== undefined);
  assert.ok(isDispatched(one, isHeld));
  held.policies.removeDispatch(one);
  assert.ok(isDispatched(one, isHeld), 'another wants it');
  const sets = [...held.sets.values()].filter((members) => members.has('10.0.0.1/32,cali1'));
  assert.equal(sets.length, 3);
  for (const members of sets) {
    members.delete('10.0.0.1/32,cali1');
    assert.ok(!isDispatched(one, isHeld));
    members.add('10.0.0.1/32,cali1');
  }
  for (const other of again) held.policies.removeDispatch(other);
  assert.ok(!isDispatched(one, isHeld));
  assert.ok(isDispatched(ofOtherFamily, isHeld));
});

test('a counter has the name of its rule, and is kept while the content of the rule is the same', () => {
  const { policies } = new Held();
  policies.setPolicy(4, policyOf('web', []));
  policies.setStack(4, stackOf(['web']));
  const counters = (...actions: readonly RuleAction[]) => {
    policies.setPolicy(4, policyOf('web', actions));
    return new Map(
      policies
        .counters()
        .map(({ set, rule }) => [`${rule.policy.name} ${rule.direction} ${rule.index}`, set]),
    );
  };
  const before = counters('Deny');
  const after = counters('Allow', 'Log', 'Deny');
  assert.deepEqual([...before.keys()], ['web ingress 1', 'web egress 1']);
  assert.deepEqual([...after.keys()], ['web ingress 3', 'web egress 3']);
  assert.deepEqual([...after.values()], [...before.values()]);
  assert.deepEqual([...counters('Allow').keys()], []);
});

test('a policy has a chain only for directions in which a stack contains it, and stacks share what they have in common', () => {
  const held = new Held();
  const empty = held.state();
  const chains = (prefix: string) =>
    [...held.chains.keys()].filter((name) => name.startsWith(`4 ${prefix}`)).length;
  for (const name of ['open', ...names]) held.policies.setPolicy(4, policyOf(name, ['Deny']));
  assert.deepEqual([chains('cali-pr'), held.policies.counters().length], [0, 0]);
  const stacksOfOne = names.map((name) => inboundStack(name));
  for (const stack of stacksOfOne) held.policies.setStack(4, stack);
  // The Profile inbound and outbound, the others inbound.
  assert.deepEqual([chains('cali-pri-'), chains('cali-pro-')], [4, 1]);
  // Inbound one for each, and one for what follows.
  assert.deepEqual([chains('cali-tw-'), chains('cali-fw-')], [4, 1]);
  assert.equal(held.policies.counters().length, 5);
  const [first, ...others] = stacksOfOne;
  for (const { name } of others) held.policies.removeStack(4, name);
  assert.deepEqual([chains('cali-pri-'), chains('cali-pro-')], [2, 1]);
  assert.deepEqual([chains('cali-tw-'), chains('cali-fw-')], [2, 1]);
  held.policies.removeStack(4, first?.name ?? assert.fail());
  assert.deepEqual(held.state(), empty);
});

test('the dispatch leads every endpoint to the chain of its stack, whichever stacks share a bucket or a chain', () => {
  const many = Array.from({ length: 40 }, (_, n) => `policy-${n}`);
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.constantFrom(...many), { minLength: 1 }),
      fc.uniqueArray(fc.constantFrom(...many)),
      fc.uniqueArray(fc.constantFrom(...many)),
      (present, outbound, removed) => {
        const held = new Held();
        const all = present.map((name, host) => {
          const stack = inboundStack(name, outbound.includes(name) ? [profilePolicy(name)] : []);
          const dispatch: Dispatch = {
            family: 4,
            address: parseCidr(`10.0.0.${host}/32`),
            interface: `cali${host}`,
            stack: name,
          };
          held.policies.setStack(4, stack);
          held.policies.addDispatch(dispatch);
          return { stack, dispatch, isRemoved: removed.includes(name) };
        });
        for (const { stack, dispatch, isRemoved } of all) {
          if (!isRemoved) continue;
          held.policies.removeDispatch(dispatch);
          held.policies.removeStack(4, stack.name);
        }
        for (const { stack, dispatch, isRemoved } of all) {
          for (const direction of directions) {
            const chain = held.dispatched(direction, `${dispatch.address},${dispatch.interface}`);
            const unknown = direction === 'ingress' ? 'unknown-to' : 'unknown-from';
            const wanted = isRemoved ? `cali-drop-${unknown}` : stackChain(direction, stack);
            assert.equal(chain, wanted);
          }
        }
      },
    ),
  );
});

test('a stack has the chains that it has alone, whichever others are there', () => {
  const variants = (['Deny', 'Pass'] as const).flatMap((defaultAction) =>
    [['a'], ['b'], ['a', 'b']].flatMap((ofTier) =>
      [[], ['a'], ['a', 'b']].flatMap((ofNext) =>
        [['open'], ['open', 'c']].map((profiles): Stack => {
          const [first, second, last] = [ofTier, ofNext, profiles].map((some) => ({
            ingress: some.map(profilePolicy),
            egress: some.slice(1).map(profilePolicy),
          }));
          assert.ok(first && second && last);
          const tiers = [
            { ...tierOf, name: 'default', ...first, defaultAction },
            ...(ofNext.length === 0 ? [] : [{ ...tierOf, name: 'next', ...second }]),
            { ...tierOf, name: profileTier, ...last, passLeaves: 'policy' as const },
          ];
          return { name: JSON.stringify(tiers), tiers };
        }),
      ),
    ),
  );
  const chainsWith = (present: readonly Stack[]) => {
    const held = new Held();
    for (const stack of present) held.policies.setStack(4, stack);
    return new Map([...held.chains].filter(([name]) => /^4 cali-[tf]w-/.test(name)));
  };
  const all = chainsWith(variants);
  for (const stack of variants) {
    const alone = chainsWith([stack]);
    assert.deepEqual(new Map([...alone].map(([name]) => [name, all.get(name)])), alone);
  }
});

/** A stack of one policy for packets to its endpoints, and some for packets from them, before a Profile. */
function inboundStack(name: string, egress: readonly PolicyId[] = []): Stack {
  const open = [profilePolicy('open')];
  return {
    name,
    tiers: [
      { ...tierOf, name: 'default', ingress: [profilePolicy(name)], egress },
      { ...tierOf, name: profileTier, ingress: open, egress: open, passLeaves: 'policy' },
    ],
  };
}

const tierOf = { defaultAction: 'Pass', passLeaves: 'tier' } as const;

function lastOfEach<T extends { readonly name: string }>(all: readonly T[]): T[] {
  return [...new Map(all.map((one) => [one.name, one])).values()];
}
