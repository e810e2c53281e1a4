import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

/** Where `npm run dev` sends everything that is not a source file: a running Tindra server. */
const server = process.env['TINDRA_SERVER'] ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte()],
  // Svelte's package offers an inert build to Node; the tests must run the one browsers get.
  resolve: process.env['VITEST'] ? { conditions: ['browser'] } : {},
  build: {
    outDir: '../src/tindra/server/static',
    emptyOutDir: true,
    target: ['chrome123', 'firefox128', 'safari17.5'],
    modulePreload: { polyfill: false },
    // A data: font or image would need a wider Content-Security-Policy than the page has to have.
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
  server: {
    proxy: Object.fromEntries(
      ['/.well-known', '/auth', '/jmap'].map((path) => [path, { target: server }]),
    ),
  },
  test: { include: ['test/**/*.test.ts'], environment: 'node' },
});
