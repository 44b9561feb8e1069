import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { z } from 'zod';

/**
 * Adds Debian packages to the bill of materials that npm wrote (CycloneDX 1.5), and takes out of it what differs from
 * build to build: bill-of-materials.ts SECONDS NPM-BOM <PACKAGES >BOM. PACKAGES are paragraphs of `dpkg-deb -f`.
 */

const bill = z.looseObject({
  metadata: z.looseObject({}),
  components: z.array(z.unknown()),
});

const [, , seconds = '', npmBillFile = ''] = process.argv;
const npmBill = bill.parse(JSON.parse(readFileSync(npmBillFile, 'utf8')));
const components = [...npmBill.components, ...(await text(process.stdin)).split('\n\n').flatMap(debian)];
const digest = createHash('sha256').update(JSON.stringify(components)).digest('hex');
const complete = {
  ...npmBill,
  serialNumber: `urn:uuid:${uuidOf(digest)}`,
  metadata: {
    ...npmBill.metadata,
    timestamp: new Date(Number(seconds) * 1000).toISOString(),
  },
  components,
};
process.stdout.write(`${JSON.stringify(complete, null, 2)}\n`);

/** One paragraph as a component; the package URL is that of the purl specification's `deb` type. */
function debian(paragraph: string): readonly object[] {
  const field = (name: string) => new RegExp(`^${name}: (.+)$`, 'm').exec(paragraph)?.[1];
  const [name, version, processor] = ['Package', 'Version', 'Architecture'].map(field);
  if (name === undefined || version === undefined) return [];
  const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${processor}&distro=bookworm`;
  return [{ 'bom-ref': purl, type: 'library', name, version, purl }];
}

/** A version 8 UUID (RFC 9562: content of the maker's choice) of the first bits of a digest. */
function uuidOf(digest: string): string {
  const [a, b, c, d, e] = [
    digest.slice(0, 8),
    digest.slice(8, 12),
    digest.slice(13, 16),
    digest.slice(17, 20),
    digest.slice(20, 32),
  ];
  return `${a}-${b}-8${c}-8${d}-${e}`;
}
