/// <reference types="vite/client" />

/** Where the embedded model's files are served; the build's configuration says. */
declare const MODEL_URL: string;
