import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, describe, test } from 'node:test';
import { IptablesTables, type Backend } from '../../src/dataplane/iptables/tables.ts';
import { ToolRunner } from '../../src/dataplane/process.ts';
import type { IpFamily } from '../../src/ip/address.ts';
import type { Chain, Rule } from '../../src/render/iptables/rule.ts';
import { enterNewNamespace } from '../lab/namespace.ts';

const namespace = enterNewNamespace();
after(() => namespace[Symbol.dispose]());

const signal = AbortSignal.timeout(600_000);

for (const backend of ['nft', 'legacy'] as const) {
  for (const family of [4, 6] as const) {
    describe(`iptables-${backend}, IPv${family}`, () => keepsTables(backend, family));
  }
}

function keepsTables(backend: Backend, family: IpFamily): void {
  const runner = new ToolRunner();
  const tool = `${family === 4 ? 'iptables' : 'ip6tables'}-${backend}`;
  const iptables = (...argv: readonly string[]) => execFileSync(tool, argv, { encoding: 'utf8' });
  const listing = (chain: string) =>
    execFileSync(tool, ['-S', chain], { encoding: 'utf8' }).trim().split('\n').slice(1);
  let tables = desired();

  function desired(): IptablesTables {
    const made = new IptablesTables(runner, { family, backend });
    made.setChain('filter', chainWith('cali-FORWARD', [jumpTo('cali-x')]));
    made.setChain('filter', chainWith('cali-x', [accepting(1), accepting(2)]));
    made.setHook('filter', {
      chain: 'FORWARD',
      inserted: [jumpTo('cali-FORWARD')],
      appended: [{ matches: [{ kind: 'markSet', bits: 0x10000 }], action: { kind: 'accept' } }],
    });
    return made;
  }

  test('chains and hooks are made in one transaction, around the rules of others', async () => {
    iptables('-A', 'FORWARD', '-i', 'docker0', '-j', 'ACCEPT');
    const { transactions } = await tables.apply(signal);
    assert.equal(transactions, 1);
    const forward = listing('FORWARD');
    assert.match(forward[0] ?? '', /-j cali-FORWARD$/);
    assert.match(forward[1] ?? '', /docker0/);
    assert.match(forward[2] ?? '', /mark .*-j ACCEPT$/);
    assert.equal(listing('cali-x').length, 2);
  });

  test('no process is started for a change: one takes all, while other programs write, and keeps no lock', async () => {
    const before = runner.forks;
    await tables.apply(signal);
    for (let marks = 3; marks < 10; marks++) {
      const rules = Array.from({ length: marks }, (_, n) => accepting(n + 1));
      tables.setChain('filter', chainWith('cali-x', rules));
      await tables.apply(signal);
      assert.equal(listing('cali-x').length, marks);
      // Without waiting for the lock.
      iptables('-A', 'FORWARD', '-i', `docker${marks}`, '-j', 'ACCEPT');
      iptables('-N', `other-${marks}`);
    }
    assert.equal(runner.forks, before);
    for (let marks = 3; marks < 10; marks++) {
      assert.equal(listing('FORWARD').filter((rule) => rule.includes(`docker${marks} `)).length, 1);
      iptables('-D', 'FORWARD', '-i', `docker${marks}`, '-j', 'ACCEPT');
      iptables('-X', `other-${marks}`);
    }
  });

  test('a new process finds everything right and writes nothing', async () => {
    tables.setChain('filter', chainWith('cali-x', [accepting(1), accepting(2)]));
    await tables.apply(signal);
    tables = desired();
    assert.deepEqual(await tables.apply(signal), { transactions: 0, lines: 0 });
  });

  test('rules that were flushed, or pushed down by others, are put back', async () => {
    iptables('-F');
    iptables('-I', 'FORWARD', '-o', 'docker0', '-j', 'ACCEPT');
    tables.invalidate();
    await tables.apply(signal);
    iptables('-I', 'FORWARD', '-o', 'docker1', '-j', 'ACCEPT');
    tables.invalidate();
    await tables.apply(signal);
    const forward = listing('FORWARD');
    assert.equal(forward.length, 4);
    assert.match(forward[0] ?? '', /-j cali-FORWARD$/);
    assert.match(forward[3] ?? '', /mark/);
    assert.equal(listing('cali-x').length, 2);
  });

  test('a transaction that the kernel refuses changes nothing and is told', async () => {
    const broken: Rule = {
      matches: [{ kind: 'sourceSet', set: 'no-such-set' }],
      action: { kind: 'drop' },
    };
    tables.setChain('filter', chainWith('cali-y', [broken]));
    await assert.rejects(tables.apply(signal), { code: 'kernel/tool-failed' });
    tables.removeChain('filter', 'cali-y');
    await tables.apply(signal);
    assert.equal(listing('cali-x').length, 2);
  });

  test('a process that wants nothing removes what is ours and leaves the rest', async () => {
    await new IptablesTables(runner, { family, backend }).apply(signal);
    const saved = execFileSync(`${tool}-save`, { encoding: 'utf8' });
    assert.ok(!saved.includes('cali'));
    assert.equal(listing('FORWARD').length, 2);
  });
}

function chainWith(name: string, rules: readonly Rule[]): Chain {
  return { name, rules };
}

function jumpTo(chain: string): Rule {
  return { matches: [], action: { kind: 'jump', chain } };
}

function accepting(port: number): Rule {
  return {
    matches: [
      { kind: 'protocol', protocol: 6 },
      { kind: 'destinationPorts', ports: [{ first: port, last: port }] },
    ],
    action: { kind: 'accept' },
    comment: `port ${port}`,
  };
}
