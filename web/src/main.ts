import '@fontsource-variable/inter/wght.css';
import './app.css';
import { mount } from 'svelte';
import Root from './ui/Root.svelte';

const target = document.getElementById('app');
if (!target) throw new Error('the page has no place for the application');
mount(Root, { target });
