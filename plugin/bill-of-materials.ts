import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { z } from 'zod';

/**
 * Adds Debian packages to npm's bill of materials (CycloneDX 1.5), and removes packages that are not in the program
 * (according to plugin/bundle.ts) and values that differ between builds:
 * bill-of-materials.ts SECONDS NPM-BOM BUNDLED <PACKAGES >BOM. PACKAGES are paragraphs of `dpkg-deb -f`.
 */

const named = z.looseObject({ name: z.string(), version: z.string(), 'bom-ref': z.string() });
const bill = z.looseObject({
  metadata: z.looseObject({ component: z.looseObject({ 'bom-ref': z.string() }) }),
  components: z.array(named),
  dependencies: z.array(z.looseObject({ ref: z.string(), dependsOn: z.array(z.string()) })),
});
const bundled = z.array(z.object({ name: z.string(), version: z.string() }));

const [, , seconds = '', npmBillFile = '', bundledFile = ''] = process.argv;
const npmBill = bill.parse(JSON.parse(readFileSync(npmBillFile, 'utf8')));
const inProgram = new Set(
  bundled
    .parse(JSON.parse(readFileSync(bundledFile, 'utf8')))
    .map(({ name, version }) => `${name}@${version}`),
);
/** Packages shipped next to the program: Node, and the native library. */
const besides = /^(node-linux-\w+|koffi|@koromix\/.+)$/;
const shipped = npmBill.components.filter(
  ({ name, version }) => inProgram.has(`${name}@${version}`) || besides.test(name),
);
const references = new Set([
  npmBill.metadata.component['bom-ref'],
  ...shipped.map((component) => component['bom-ref']),
]);
const components = [...shipped, ...(await text(process.stdin)).split('\n\n').flatMap(debian)];
const digest = createHash('sha256').update(JSON.stringify(components)).digest('hex');
const complete = {
  ...npmBill,
  serialNumber: `urn:uuid:${uuidOf(digest)}`,
  metadata: {
    ...npmBill.metadata,
    timestamp: new Date(Number(seconds) * 1000).toISOString(),
  },
  components,
  dependencies: npmBill.dependencies
    .filter(({ ref }) => references.has(ref))
    .map(({ ref, dependsOn }) => ({
      ref,
      dependsOn: dependsOn.filter((other) => references.has(other)),
    })),
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
