import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ipv6Forwarding } from './host-settings.ts';

test('a damaged record of IPv6 forwarding is reported, and still shows that the daemon enabled it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-forwarding-'));
  const record = JSON.stringify({ '/proc/sys/net/ipv6/conf/all/forwarding': '0', '/proc/x': '1' });
  try {
    const lengths = [0, 1, record.length / 2, record.length - 1];
    const damaged = [...lengths.map((length) => record.slice(0, length)), '\0\xff{', '[]', 'null'];
    for (const text of damaged) {
      writeFileSync(join(folder, 'ipv6-forwarding.json'), text);
      const warnings: string[] = [];
      const forwarding = new Ipv6Forwarding(join(folder, 's'), (warning) => warnings.push(warning));
      assert.equal(forwarding.isOwn, true, text);
      forwarding.keepAdvertisements('lo');
      assert.equal(warnings.length, 1, text);
    }
    rmSync(join(folder, 'ipv6-forwarding.json'));
    const warn = (warning: string) => assert.fail(warning);
    assert.equal(new Ipv6Forwarding(join(folder, 's'), warn).isOwn, false);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
