// The faults in Chromium: PASSERBY_BIN=… [CHROMIUM=…] node --test faults-chromium.test.mjs

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { faults } from './faults.mjs';

class Tab {
  #page;

  constructor(page) {
    this.#page = page;
  }

  run(work, ...args) {
    return this.#page.evaluate(`(${work})(...${JSON.stringify(args)})`);
  }

  async reload() {
    await this.#page.reload();
  }

  async goto(url) {
    await this.#page.goto(url);
  }

  close() {
    return this.#page.close();
  }
}

const OPTIONS = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
};

function visitor(context) {
  return {
    async open(url) {
      const tab = new Tab(await context.newPage());
      await tab.goto(url);
      return tab;
    },
    offline: (off) => context.setOffline(off),
    close: () => context.close(),
  };
}

/** A visitor with a profile on disk, who can close the browser and start it again. */
async function lasting() {
  const folder = await mkdtemp(join(tmpdir(), 'passerby-profile-'));
  let context = await chromium.launchPersistentContext(folder, OPTIONS);
  return {
    open: (url) => visitor(context).open(url),
    async restart() {
      await context.close();
      context = await chromium.launchPersistentContext(folder, OPTIONS);
    },
    async close() {
      await context.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function launch() {
  const browser = await chromium.launch(OPTIONS);
  return {
    version: `Chromium ${browser.version()}`,
    visitor: async () => visitor(await browser.newContext()),
    lasting,
    close: () => browser.close(),
  };
}

faults('Chromium', launch, { restarts: true });
