import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CalicoError } from '../../errors/error.ts';
import { findRefused, isRefusal, type Commit } from './refusals.ts';
import type { FilledChain } from './script.ts';

const bad = '--bad';

function failure(status: string, why: string): CalicoError<'kernel/tool-failed'> {
  return new CalicoError('kernel/tool-failed', { tool: 'iptables-restore', status, why });
}

/** Chains by the rules that they have, of which some are refused; and a tool that may name the line. */
const cases = fc.record({
  chains: fc.array(
    fc.record({
      isNew: fc.boolean(),
      rules: fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 40 }),
    }),
    { maxLength: 20 },
  ),
  namesLine: fc.boolean(),
});

function chainOf(name: string, isNew: boolean, rules: readonly boolean[]): FilledChain {
  return {
    name,
    isNew,
    ifRefused: undefined,
    rules: rules.map((isBad, n) => ({
      hash: `${name} ${n}`,
      text: `-p 6 -m comment --comment "cali:${n}" ${isBad ? bad : '-j ACCEPT'}`,
    })),
  };
}

/** The tool: refuses a text with a bad line, naming it or the last one. */
function toolThat(namesLine: boolean): { readonly commit: Commit; readonly texts: string[][] } {
  const texts: string[][] = [];
  return {
    texts,
    commit: async (lines) => {
      texts.push([...lines]);
      const at = lines.findIndex((line) => line.includes(bad));
      if (at < 0) return undefined;
      return failure('1', `line ${namesLine ? at + 2 : lines.length + 2} failed`);
    },
  };
}

test('only the chains with refused rules are found; packets pass none of the tried rules', () =>
  fc.assert(
    fc.asyncProperty(cases, async ({ chains, namesLine }) => {
      const filled = chains.map(({ isNew, rules }, n) =>
        chainOf(
          `c${n}`,
          isNew,
          rules.map((rule) => rule === 0),
        ),
      );
      const { commit, texts } = toolThat(namesLine);
      const found = await findRefused(filled, commit);
      const desired = filled.filter(({ rules }) => rules.some(({ text }) => text.includes(bad)));
      assert.deepEqual(
        [...found.keys()],
        desired.map(({ name }) => name),
      );
      for (const { why } of found.values()) assert.match(why, /^-p 6 --bad: .*line \d+ failed/);
      for (const line of texts.flat()) assert.match(line, /^(?:-A cali-trial |:)/);
    }),
  ));

for (const [namesLine, most] of [[true, 2] as const, [false, 16] as const]) {
  test(`one of 10,000 costs ${most} commits where the line ${namesLine ? 'is' : 'is not'} named`, async () => {
    for (const at of [0, 1, 4999, 9998, 9999]) {
      const rules = Array.from({ length: 100 }, (_, n) =>
        chainOf(
          `c${n}`,
          true,
          Array.from({ length: 100 }, (__, rule) => 100 * n + rule === at),
        ),
      );
      const { commit, texts } = toolThat(namesLine);
      const found = await findRefused(rules, commit);
      assert.deepEqual([...found.keys()], [`c${Math.floor(at / 100)}`]);
      // The rest after it is tried as well.
      assert.ok(texts.length <= most + 1, `${texts.length} commits`);
    }
  });
}

test('rules refused together but not alone name no chain', async () => {
  const filled = [chainOf('c', true, [false, false, false, false])];
  const commit: Commit = async (lines) => (lines.length > 4 ? failure('1', 'too many') : undefined);
  assert.deepEqual([...(await findRefused(filled, commit)).keys()], []);
});

test('a refusal is an error about the rules, not that the tool was stopped or waited for its lock', () => {
  for (const status of ['status 1', 'status 2', 'status 4']) {
    assert.ok(isRefusal(failure(status, 'line 3 failed')));
    assert.ok(!isRefusal(failure(status, 'Another app is currently holding the xtables lock')));
  }
  for (const status of ['status 3', 'status 111', 'signal SIGKILL']) {
    assert.ok(!isRefusal(failure(status, 'line 3 failed')));
  }
  assert.ok(!isRefusal(new Error('status 1')));
});
