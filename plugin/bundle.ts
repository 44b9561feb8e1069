import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { z } from 'zod';

/**
 * Bundles the sources and their libraries into the few files that are installed: bundle.ts [DIR]
 * One file loads in half the time of seven hundred. DIR (default: dist) also gets packages.json, the list of bundled
 * packages, and their licences. koffi is native and stays a package.
 */

const folder = resolve(process.argv[2] ?? 'dist');
process.chdir(join(import.meta.dirname, '..'));

/**
 * Unused parts of libraries, which would be loaded at every start: of dockerode Docker over SSH, BuildKit and the files
 * of an image that is built; of prom-client the metrics of its process; of fastify requests without a socket.
 */
const leftOut =
  /\/(docker-modem\/lib\/ssh|dockerode\/lib\/(session|buildkit)|tar-fs\/index|@balena\/dockerignore\/ignore|@opentelemetry\/api\/.*|light-my-request\/index)\.c?js$/;
/** Of fastify the compilers of JSON schemas, which it prepares for every server; ours have none. */
const uncompiled = /\/@fastify\/(ajv-compiler|fast-json-stringify-compiler)\/index\.js$/;

const leaveOut: Plugin = {
  name: 'leave-out',
  setup: (building) => {
    const throws = (path: string) =>
      `() => { throw new Error(${JSON.stringify(`${nameIn(path)} was left out`)}); }`;
    building.onLoad({ filter: leftOut }, ({ path }) => ({
      contents: `module.exports = ${throws(path)};`,
    }));
    building.onLoad({ filter: uncompiled }, ({ path }) => ({
      contents: `module.exports = () => ${throws(path)};`,
    }));
  },
};

function nameIn(path: string): string {
  return path.replace(/.*node_modules\//, '');
}

/**
 * An ES module import from node:http makes Node evaluate all exports, WebSocket included, and therefore load its HTTP
 * client undici, which takes longer than all other code; require does not.
 */
const requireHttp: Plugin = {
  name: 'require-http',
  setup: (building) => {
    building.onResolve({ filter: /^(node:)?http$/ }, ({ namespace }) =>
      namespace === 'required' ? { external: true } : { path: 'node:http', namespace: 'required' },
    );
    building.onLoad({ filter: /.*/, namespace: 'required' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
    }));
  },
};

/** zod loads its messages in fifty languages at every start; ours are in English. */
const englishOnly: Plugin = {
  name: 'english-only',
  setup: (building) => {
    building.onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, ({ path }) => ({
      contents: "export { default as en } from './en.js';",
      resolveDir: dirname(path),
    }));
  },
};

rmSync(folder, { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: ['src/main.ts'],
  outdir: folder,
  bundle: true,
  // Code for commands only and for etcd only is in separate files, loaded on demand.
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  // Keep stack traces readable.
  minify: false,
  external: ['koffi'],
  plugins: [leaveOut, requireHttp, englishOnly],
  // Globals that CommonJS libraries expect.
  banner: {
    js: [
      "import { createRequire as createRequireOfNode } from 'node:module';",
      'const require = createRequireOfNode(import.meta.url);',
      'const __dirname = import.meta.dirname;',
    ].join('\n'),
  },
  chunkNames: 'lib/[name]-[hash]',
  metafile: true,
  logLevel: 'warning',
});
for (const file of Object.keys(metafile.outputs)) if (file.endsWith('.js')) toAscii(file);
// The etcd client reads its protocol files from ../proto, relative to its own file.
mkdirSync(join(folder, 'proto'));
for (const name of readdirSync('node_modules/etcd3/proto')) {
  copyFileSync(join('node_modules/etcd3/proto', name), join(folder, 'proto', name));
}
writePackages(Object.keys(metafile.inputs));

function writePackages(inputs: readonly string[]): void {
  const roots = inputs.flatMap((input) =>
    leftOut.test(input) || uncompiled.test(input)
      ? []
      : (/^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input) ?? []),
  );
  const about = z.object({ name: z.string(), version: z.string() });
  const packages = [...new Set(roots)].toSorted().map((root) => ({
    root,
    ...about.parse(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))),
  }));
  const listed = packages.map(({ name, version }) => ({ name, version }));
  writeFileSync(join(folder, 'packages.json'), `${JSON.stringify(listed, null, 2)}\n`);
  const licences = packages.flatMap(({ root, name, version }) => {
    const files = readdirSync(root).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
    return files.map(
      (file) => `== ${name} ${version}\n\n${readFileSync(join(root, file), 'utf8').trim()}\n`,
    );
  });
  writeFileSync(join(folder, 'licences.txt'), licences.join('\n'));
}

/**
 * Escapes what is not ASCII; esbuild leaves it in comments. A single such character makes V8 keep the whole text of the
 * file, which it needs as long as the process runs, in two bytes per character.
 */
function toAscii(file: string): void {
  const text = readFileSync(file, 'utf8');
  const escaped = text.replaceAll(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  writeFileSync(file, escaped);
}
