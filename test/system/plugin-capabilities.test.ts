import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { startHost } from '../lab/host.ts';
import { unlessLong } from '../lab/long.ts';
import { ManagedPluginLab, pluginName } from '../lab/managed-plugin.ts';
import { checkout } from '../lab/built.ts';
import { words } from '../lab/words.ts';

const skip = unlessLong('takes a minute');

const manifest = z.looseObject({
  linux: z.looseObject({ capabilities: z.array(z.string()) }),
});

/** What the log says when one is missing. */
const complaints: Readonly<Record<string, RegExp>> = {
  CAP_NET_ADMIN: /\(missing CAP_NET_ADMIN\)/,
  CAP_SYS_ADMIN: /kernel: cannot make \/proc\/sys\/net writable: EPERM/,
};

describe('capabilities of the managed plugin', { timeout: 600_000, skip }, () => {
  let lab: ManagedPluginLab;
  before(async () => {
    lab = new ManagedPluginLab(await startHost({ engine: '28.5', uplink: true }));
    await lab.start('--live-restore');
  });
  after(async () => lab[Symbol.asyncDispose]());

  const given = manifest.parse(JSON.parse(readFileSync(`${checkout}/config.json`, 'utf8')));
  for (const one of given.linux.capabilities) {
    test(`without ${one} it is not enabled, and one line of the log says why`, async () => {
      const rest = given.linux.capabilities.filter((other) => other !== one);
      await lab.create(`without-${one}`, pluginName, (text) =>
        JSON.stringify({
          ...manifest.parse(JSON.parse(text)),
          linux: { ...given.linux, capabilities: rest },
        }),
      );
      await lab.refused(...words`plugin enable ${pluginName}`);
      const said = lab.host
        .dockerLog()
        .split('\n')
        .filter((line) => complaints[one]?.test(line));
      assert.notEqual(said.length, 0, lab.host.dockerLog());
      await lab.docker(...words`plugin rm ${pluginName}`);
    });
  }

  test('with all of them it is enabled and all is well', async () => {
    await lab.create('with-all');
    await lab.docker(...words`plugin enable ${pluginName}`);
    await lab.isWellAgain();
  });
});
