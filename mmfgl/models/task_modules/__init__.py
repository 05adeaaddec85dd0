"""Task modules: candidate selection."""

from .candidate_selector import CandidateSelector, Selection

__all__ = ['CandidateSelector', 'Selection']
