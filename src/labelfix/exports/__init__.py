"""Write data sets with cleaned labels in the forms that other tools read.

In: A finished RUN, its decisions, and the data where samples are copied.
Out: Tables, folders and archives with the labels of an `ExportPlan`.
"""
